// Widths of characters in a wide sans serif (DejaVu Sans), as shares of the font's size; most other fonts are narrower.
const WIDTHS: readonly (readonly [RegExp, number])[] = [
  [/[ijl.,:;'|!()[\]/\\ -]/, 0.4],
  [/[mwMW@%…]/, 1],
  [/[A-Z]/, 0.75],
  [/[ -~·–—]/, 0.64],
];
/** Ideographs and whatever else is not in the table. */
const OTHER_WIDTH = 1.05;

/**
 * Cuts text so that it fits, with an ellipsis for what is missing.
 *
 * @param text - One line.
 * @param width - Room for it, in the unit of `size`.
 * @param size - Size of the font.
 * @returns The text itself when there is room.
 */
export function fitText(text: string, width: number, size: number): string {
  const characters = Array.from(text);
  const room = width / size;
  let used = 0;
  let fitting = 0;
  for (const character of characters) {
    used += widthOf(character);
    if (used <= room - widthOf("…")) fitting += 1;
    else if (used > room) return `${characters.slice(0, fitting).join("")}…`;
  }
  return text;
}

function widthOf(character: string): number {
  return WIDTHS.find(([pattern]) => pattern.test(character))?.[1] ?? OTHER_WIDTH;
}
