/** Makes a name from an image safe to print: control characters would let an image talk to the terminal. */
export function safeText(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, "0")}`);
}
