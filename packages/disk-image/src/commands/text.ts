/**
 * Makes a name from an image safe to print: control characters would let an image talk to the terminal, invisible ones
 * let it reorder a line.
 */
export function safeText(text: string): string {
  return text.replaceAll(/\p{C}/gu, (character) => {
    const code = character.codePointAt(0) ?? 0;
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u{${code.toString(16)}}`;
  });
}
