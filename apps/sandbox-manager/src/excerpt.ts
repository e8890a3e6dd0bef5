/** Beginning and end of a text that may be longer than anybody wants to read. */
export class Excerpt {
  readonly #half: number;
  #head = "";
  #tail = "";
  #length = 0;

  /** @param limit - Most that is kept, in characters. */
  constructor(limit: number) {
    this.#half = Math.floor(limit / 2);
  }

  add(text: string): void {
    this.#length += text.length;
    const room = this.#half - this.#head.length;
    this.#head += text.slice(0, room);
    this.#tail = (this.#tail + text.slice(room)).slice(-this.#half);
  }

  /** What is kept, with a line in the middle that says how much is not. */
  toString(): string {
    const missing = this.#length - this.#head.length - this.#tail.length;
    return missing === 0
      ? this.#head + this.#tail
      : `${this.#head}\n[… ${missing} characters left out …]\n${this.#tail}`;
  }
}

/** The same of a text that is there already. */
export function excerptOf(text: string, limit: number): string {
  const excerpt = new Excerpt(limit);
  excerpt.add(text);
  return excerpt.toString();
}
