import { type Bytes, sizeOf } from "../bytes/byte-source.ts";
import { UkiSignError } from "../errors.ts";
import { INITRD_ALIGNMENT } from "../format/uki.ts";
import { decodePe, type PeImage, readPeSection } from "../pe/image.ts";
import type { NewPeSection } from "../pe/sections.ts";

/** Most bytes of a section that are decoded as text. */
export const DEFAULT_MAX_TEXT_BYTES = 1 << 20;

/** A section with this content; none without any. */
export function section(name: string, content: string | Bytes | undefined): NewPeSection[] {
  if (content === undefined) return [];
  return [{ name, data: typeof content === "string" ? new TextEncoder().encode(content) : content }];
}

/** The `.initrd` section. */
export function initrdSection(initrd: Bytes | readonly Bytes[] | undefined): NewPeSection[] {
  return initrd === undefined ? [] : [{ name: ".initrd", data: joinInitrds(initrd) }];
}

function joinInitrds(initrd: Bytes | readonly Bytes[]): readonly Bytes[] {
  if (!Array.isArray(initrd)) return [initrd as Bytes];
  // A single initrd goes in as it is; of several each is padded, also the last.
  if (initrd.length === 1) return initrd;
  return initrd.flatMap((part: Bytes) => [part, new Uint8Array(-sizeOf(part) & (INITRD_ALIGNMENT - 1))]);
}

/** The `.sbat` texts that an image carries. */
export function sbatOf(image: Bytes, decoded: PeImage): string[] {
  return decoded.sections
    .filter(({ name }) => name === ".sbat")
    .map((found) => {
      if (found.rawSize <= DEFAULT_MAX_TEXT_BYTES) return Buffer.from(readPeSection(image, found)).toString("latin1");
      const message = `expected at most ${DEFAULT_MAX_TEXT_BYTES} bytes of .sbat, got ${found.rawSize}`;
      throw new UkiSignError("UKI_SIGN_TOO_LARGE", message, { offset: found.rawOffset });
    });
}

/** Decodes one input; the error names the option it came from. */
export function decodeInput(field: string, image: Bytes): PeImage {
  try {
    return decodePe(image);
  } catch (error) {
    if (!(error instanceof UkiSignError)) throw error;
    throw new UkiSignError(error.code, `${field}: ${error.message}`, { offset: error.offset, field, cause: error });
  }
}
