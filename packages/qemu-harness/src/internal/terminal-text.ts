/** Longest escape sequence that is recognised; a longer one is not a sequence but text that lost its beginning. */
const MAX_SEQUENCE_LENGTH = 4096;

type State = "text" | "escape" | "escape-intermediate" | "csi" | "string" | "string-escape";

/**
 * Turns what a program drew on a terminal into plain lines that a pattern can be matched against: escape sequences
 * and control characters vanish, CR LF and a lone CR become one line feed, and moving the cursor to another place
 * starts a new line. Sequences and characters may be split between chunks anywhere.
 *
 * @see ECMA-48, 5th edition, 5.3 and 5.4 for the grammar of escape and control sequences
 */
export class TerminalText {
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  #state: State = "text";
  #sequenceLength = 0;
  #pendingReturn = false;
  #lineEmpty = true;

  /** Takes the next bytes and returns the text they add. */
  push(bytes: Uint8Array): string {
    let out = "";
    for (const character of this.#decoder.decode(bytes, { stream: true })) out += this.#step(character);
    return out;
  }

  #step(character: string): string {
    if (this.#state !== "text") {
      this.#sequenceLength += 1;
      if (this.#sequenceLength > MAX_SEQUENCE_LENGTH) this.#state = "text";
    }
    const code = character.codePointAt(0) ?? 0;
    switch (this.#state) {
      case "text":
        return this.#text(character, code);
      case "escape":
        if (character === "[") this.#state = "csi";
        else if ("]PX^_".includes(character)) this.#state = "string";
        else this.#state = code >= 0x20 && code <= 0x2f ? "escape-intermediate" : "text";
        return "";
      case "escape-intermediate":
        if (code < 0x20 || code > 0x2f) this.#state = "text";
        return "";
      case "csi":
        if (code >= 0x20 && code <= 0x3f) return "";
        this.#state = "text";
        // A control character inside a sequence acts as if it stood before it; only line ends matter here.
        if (code < 0x20) return this.#text(character, code);
        return "ABEFHdf".includes(character) ? this.#newLine() : "";
      case "string":
        if (code === 0x07) this.#state = "text";
        else if (code === 0x1b) this.#state = "string-escape";
        return "";
      case "string-escape":
        // ESC \ ends the string; any other ESC starts a new sequence.
        if (character === "\\") this.#state = "text";
        else {
          this.#state = "escape";
          return this.#step(character);
        }
        return "";
    }
  }

  #text(character: string, code: number): string {
    if (code === 0x0d) {
      this.#pendingReturn = true;
      return "";
    }
    if (code === 0x0a) {
      this.#pendingReturn = false;
      this.#lineEmpty = true;
      return "\n";
    }
    if (code === 0x1b) {
      this.#state = "escape";
      this.#sequenceLength = 0;
      return "";
    }
    if (code < 0x20 && code !== 0x09) return "";
    if (code === 0x7f) return "";
    const lead = this.#pendingReturn ? this.#newLine() : "";
    this.#pendingReturn = false;
    this.#lineEmpty = false;
    return lead + character;
  }

  #newLine(): string {
    if (this.#lineEmpty) return "";
    this.#lineEmpty = true;
    this.#pendingReturn = false;
    return "\n";
  }
}
