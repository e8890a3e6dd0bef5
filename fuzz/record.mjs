// The table of what was tried, in a Markdown file: a row for each decoder, written when the decoder is done.
import { readFile, rename, writeFile } from "node:fs/promises";

const COLUMNS = [
  "decoder",
  "inputs",
  "seconds",
  "of processor",
  "inputs per second of processor",
  "slowest",
  "memory",
  "corpus",
  "places",
  "seed",
  "date",
  "finding",
];
const HEAD = `| ${COLUMNS.join(" | ")} |`;
const RULE = `|${" --- |".repeat(COLUMNS.length)}`;

/** A table that ends where its rows end; the text around it is somebody else's. */
export class Record {
  #path;
  #rows;
  /** Writing waits for what is being written. */
  #written = Promise.resolve();

  /** @param path - Of a file with a line that is the head of the table. */
  static async open(path) {
    const lines = (await readFile(path, "utf8")).split("\n");
    const head = lines.indexOf(HEAD);
    if (head < 0) throw new Error(`expected a line ${HEAD} in ${path}`);
    const after = lines.findIndex((line, index) => index > head && !line.startsWith("|"));
    const rows = lines.slice(head + 2, after < 0 ? lines.length : after).map((line) => line.split("|").slice(1, -1));
    return new Record(path, new Map(rows.map((cells) => [cells[0].trim(), cells.map((cell) => cell.trim())])));
  }

  constructor(path, rows) {
    this.#path = path;
    this.#rows = rows;
  }

  /** Whether a decoder was given at least so many inputs, and took all of them. */
  has(name, runs) {
    const cells = this.#rows.get(name);
    return cells !== undefined && Number(cells[1]) >= runs && cells.at(-1) === "none";
  }

  /** Adds what came of a decoder, or replaces what did before. */
  add(name, { seed, runs, seconds, cpuSeconds, slowest, memory, corpus, places, failure }) {
    const speed = cpuSeconds === undefined ? "-" : `${Math.round(runs / cpuSeconds)}`;
    const times = [`${Math.round(seconds)}`, cpuSeconds === undefined ? "-" : `${Math.round(cpuSeconds)}`, speed];
    const finding = failure === undefined ? "none" : failure.reason.split("\n", 1)[0];
    const date = new Date().toISOString().slice(0, 10);
    this.#rows.set(name, [
      name,
      `${runs}`,
      ...times,
      slowest,
      memory,
      `${corpus}`,
      `${places}`,
      `${seed}`,
      date,
      finding,
    ]);
    this.#written = this.#written.then(() => this.#write());
    return this.#written;
  }

  async #write() {
    const lines = (await readFile(this.#path, "utf8")).split("\n");
    const head = lines.indexOf(HEAD);
    const after = lines.findIndex((line, index) => index > head && !line.startsWith("|"));
    const rows = [...this.#rows.values()]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map((cells) => `| ${cells.join(" | ")} |`);
    lines.splice(head, (after < 0 ? lines.length : after) - head, HEAD, RULE, ...rows);
    await writeFile(`${this.#path}.new`, lines.join("\n"));
    await rename(`${this.#path}.new`, this.#path);
  }
}
