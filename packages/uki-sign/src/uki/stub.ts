import type { Bytes } from "../bytes/byte-source.ts";
import { STUB_SECTION_NAMES } from "../format/uki.ts";
import { type PeImage, readPeSection } from "../pe/image.ts";

/** Largest part of a stub that is searched, in bytes; systemd's are below 100 KiB. */
const MAX_SEARCHED_BYTES = 4 * 1024 * 1024;

/** Which sections the stub of an image knows and so measures: those whose names are in its program, if these are there at all. */
export function knownToStub(image: Bytes, { sections }: PeImage): (name: string) => boolean {
  const programs = sections
    .filter(({ name, rawSize }) => STUB_SECTION_NAMES.includes(name) && rawSize <= MAX_SEARCHED_BYTES)
    .map((section) => Buffer.from(readPeSection(image, section)));
  const isNamed = (name: string): boolean => programs.some((program) => program.includes(`${name}\0`, 0, "latin1"));
  return isNamed(".linux") && isNamed(".cmdline") ? isNamed : () => true;
}
