import { UkiSignError } from "../errors.ts";
import { SBAT_HEADER } from "../format/uki.ts";

/**
 * Merges `.sbat` texts into one: a single header line, then the entries of each text in order.
 *
 * @param texts - CSV as in a `.sbat` section or a file, each beginning with the `sbat,` entry; trailing NULs are ignored.
 * @returns Text of the merged section, ending with a newline and a NUL.
 * @throws {UkiSignError} `UKI_SIGN_SBAT_INVALID` when a text does not begin with `sbat,1,` or a line is not
 *   `component,generation[,…]`.
 * @see shim `SBAT.md`, "Version and Component Metadata"
 * @example
 * mergeSbat([stubText, "sbat,1,SBAT Version,sbat,1,…\nlinux.example,1,Example,linux,6.12,https://example.org/\n"]);
 */
export function mergeSbat(texts: readonly string[]): string {
  const lines = texts.flatMap((text, index) => parseEntries(text, `sbat[${index}]`));
  return `${[SBAT_HEADER, ...lines].join("\n")}\n\0`;
}

function parseEntries(text: string, field: string): string[] {
  const [header = "", ...lines] = text.replace(/\0+$/, "").split(/\r?\n/);
  if (!/^sbat,1(,|$)/.test(header)) {
    throw invalid(`a first line beginning with "sbat,1,", got ${JSON.stringify(header.slice(0, 60))}`, field);
  }
  const entries = lines.filter((line) => line !== "");
  for (const line of entries) {
    if (!/^[\x21-\x2b\x2d-\x7e]+,[0-9]+(,[\x20-\x7e]*)?$/.test(line)) {
      throw invalid(`lines of component,generation,…, got ${JSON.stringify(line.slice(0, 60))}`, field);
    }
  }
  return entries;
}

function invalid(expectation: string, field: string): UkiSignError {
  return new UkiSignError("UKI_SIGN_SBAT_INVALID", `expected ${expectation} (field ${field})`, { field });
}
