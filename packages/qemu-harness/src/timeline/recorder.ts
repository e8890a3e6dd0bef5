import type { TimelineMark } from "./timeline.ts";

/** Most lines and events that are remembered of a machine; the first ones are, because those are its boot. */
export const MAX_TIMELINE_MARKS = 20_000;
/** Most characters of a line that are remembered. */
const MAX_MARK_CHARS = 200;

type Unfinished = Omit<TimelineMark, "text"> & { text: string };

/** Writes down what a machine says, and when it arrived here. */
export class TimelineRecorder {
  readonly #startedAt = performance.now();
  readonly #marks: TimelineMark[] = [];
  /** last lines of consoles, which may go on */
  readonly #lines = new Map<string, Unfinished>();
  #omitted = 0;

  /** Takes what a console wrote, as normalised text. */
  text(name: string, text: string): void {
    const atMs = this.#now();
    for (let begin = 0; begin < text.length; ) {
      const found = text.indexOf("\n", begin);
      const end = found === -1 ? text.length : found;
      const line = this.#lines.get(name) ?? { atMs, source: "console", name, text: "" };
      if (end > begin && line.text === "") this.#lines.set(name, line);
      line.text += text.slice(begin, Math.min(end, begin + MAX_MARK_CHARS - line.text.length));
      if (found !== -1) this.#finish(name, line);
      begin = end + 1;
    }
  }

  /** Takes anything else that happened. */
  mark(source: Exclude<TimelineMark["source"], "console">, name: string, text: string): void {
    this.#add({ atMs: this.#now(), source, name, text });
  }

  /** Everything until now, the earliest first, and how much of it was too much. */
  read(): { readonly marks: readonly TimelineMark[]; readonly omitted: number } {
    const marks = [...this.#marks, ...this.#lines.values()].filter(({ text }) => text.trim() !== "");
    return { marks: marks.sort((a, b) => a.atMs - b.atMs), omitted: this.#omitted };
  }

  #finish(name: string, line: Unfinished): void {
    this.#lines.delete(name);
    if (line.text.trim() !== "") this.#add(line);
  }

  #add(mark: TimelineMark): void {
    if (this.#marks.length < MAX_TIMELINE_MARKS) this.#marks.push(mark);
    else this.#omitted += 1;
  }

  #now(): number {
    return performance.now() - this.#startedAt;
  }
}
