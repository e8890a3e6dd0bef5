/** Longest escape sequence that is recognised; a longer one is not a sequence but text that lost its beginning. */
const MAX_SEQUENCE_LENGTH = 4096;

/** Code of CSI as one character, U+009B. */
const C1_CSI = 0x9b;
/** Codes of DCS, SOS, OSC, PM and APC as one character, which begin strings. */
const C1_STRINGS = new Set([0x90, 0x98, 0x9d, 0x9e, 0x9f]);
/** DEL, marks that reorder a line, and other characters without a shape. */
const INVISIBLE = /^[\u007f\p{Cf}]$/u;

type State = "text" | "escape" | "escape-intermediate" | "csi" | "string" | "string-escape";

/**
 * Turns what a program drew on a terminal into plain lines that a pattern can be matched against: escape sequences,
 * control characters and invisible ones vanish, CR LF and a lone CR become one line feed, and moving the cursor to another place
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
    if (code >= 0x80 && code <= 0x9f) return this.#c1(code);
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

  /** A C1 control is the same as ESC and a letter, and wherever it comes it ends what went before. */
  #c1(code: number): string {
    if (code === C1_CSI) this.#begin("csi");
    else if (C1_STRINGS.has(code)) this.#begin("string");
    else this.#state = "text";
    return "";
  }

  #begin(state: State): void {
    this.#state = state;
    this.#sequenceLength = 0;
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
      this.#begin("escape");
      return "";
    }
    if (code < 0x20 && code !== 0x09) return "";
    if (code >= 0x7f && INVISIBLE.test(character)) return "";
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
