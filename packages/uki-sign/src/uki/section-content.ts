import { UkiSignError } from "../errors.ts";
import { INITRD_ALIGNMENT } from "../format/uki.ts";
import { decodePe, type PeImage, readPeSection } from "../pe/image.ts";
import type { NewPeSection } from "../pe/sections.ts";

/** A section with this content; none without any. */
export function section(name: string, content: string | Uint8Array | undefined): NewPeSection[] {
  if (content === undefined) return [];
  return [{ name, data: typeof content === "string" ? new TextEncoder().encode(content) : content }];
}

/** The `.initrd` section. */
export function initrdSection(initrd: Uint8Array | readonly Uint8Array[] | undefined): NewPeSection[] {
  return initrd === undefined ? [] : [{ name: ".initrd", data: joinInitrds(initrd) }];
}

function joinInitrds(initrd: Uint8Array | readonly Uint8Array[]): readonly Uint8Array[] {
  if (initrd instanceof Uint8Array) return [initrd];
  // A single initrd goes in as it is; of several each is padded, also the last.
  if (initrd.length === 1) return initrd;
  return initrd.flatMap((part) => [part, new Uint8Array(-part.length & (INITRD_ALIGNMENT - 1))]);
}

/** The `.sbat` texts that an image carries. */
export function sbatOf(image: Uint8Array, decoded: PeImage): string[] {
  return decoded.sections
    .filter(({ name }) => name === ".sbat")
    .map((found) => Buffer.from(readPeSection(image, found)).toString("latin1"));
}

/** Decodes one input; the error names the option it came from. */
export function decodeInput(field: string, image: Uint8Array): PeImage {
  try {
    return decodePe(image);
  } catch (error) {
    if (!(error instanceof UkiSignError)) throw error;
    throw new UkiSignError(error.code, `${field}: ${error.message}`, { offset: error.offset, field, cause: error });
  }
}
