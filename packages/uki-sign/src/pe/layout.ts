import { UkiSignError } from "../errors.ts";
import type { PeImage, PeSection } from "./image.ts";

/** Smallest multiple of `alignment` that is not below `value`; exact beyond 2^32. */
export function alignUp(value: number, alignment: number): number {
  return Math.ceil(value / alignment) * alignment;
}

/** Sections that have data in the file, by its position. */
export function byRawOffset(sections: readonly PeSection[]): PeSection[] {
  return sections.filter(({ rawSize }) => rawSize > 0).sort((a, b) => a.rawOffset - b.rawOffset);
}

/**
 * End of the last section's data, in bytes from the start of the file.
 *
 * @throws {UkiSignError} `UKI_SIGN_PE_INVALID` unless headers, sections and certificate table follow each other without
 *   gap or overlap.
 */
export function contiguousEnd(decoded: PeImage): number {
  let end = decoded.sizeOfHeaders;
  for (const section of byRawOffset(decoded.sections)) {
    if (section.rawOffset !== end) {
      throw new UkiSignError(
        "UKI_SIGN_PE_INVALID",
        `expected the data of section ${section.name} to begin where the data before it ends (byte ${end}), ` +
          `got byte ${section.rawOffset}`,
        {
          offset: section.headerOffset,
          hint: "signing tools and firmware disagree on what a signature of such a file covers",
        },
      );
    }
    end += section.rawSize;
  }
  if (decoded.certificates !== undefined && decoded.certificates.address < end) {
    throw new UkiSignError(
      "UKI_SIGN_PE_INVALID",
      `expected the certificate table after the last section (byte ${end}), got byte ${decoded.certificates.address}`,
      { offset: decoded.certificateDirectoryOffset },
    );
  }
  return end;
}
