/**
 * Makes text from an image harmless to show. Names in it are an attacker's: control characters could drive a terminal,
 * invisible ones could reorder a line, and some of them are no XML at all.
 */
export function printable(text: string): string {
  return text.replace(/\p{C}/gu, "\ufffd");
}
