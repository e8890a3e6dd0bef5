import type { Bytes } from "../bytes/byte-source.ts";
import * as pe from "../format/pe.ts";
import { ByteView } from "./byte-view.ts";
import type { PeImage } from "./image.ts";

/**
 * Whether an image consists of its sections, which end at byte `end`, and COFF's symbol and string table behind them.
 * Nothing that loads an image reads these: they are for debuggers, and should not be in an image at all.
 *
 * @see PE Format, "COFF File Header", "COFF Symbol Table", "COFF String Table"
 */
export function endsWithSymbols(image: Bytes, decoded: PeImage, end: number): boolean {
  const view = new ByteView(image);
  const coff = decoded.peOffset + pe.PE_MAGIC_SIZE;
  const symbols = view.u32(coff + pe.COFF_POINTER_TO_SYMBOL_TABLE, "the place of the symbol table");
  const count = view.u32(coff + pe.COFF_NUMBER_OF_SYMBOLS, "the number of symbols");
  if (symbols === 0 || symbols !== end) return false;
  const strings = symbols + count * pe.SYMBOL_SIZE;
  if (strings + 4 > decoded.fileSize) return strings === decoded.fileSize;
  return strings + view.u32(strings, "the size of the string table") === decoded.fileSize;
}
