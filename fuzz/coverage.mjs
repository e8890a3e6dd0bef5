// Which code has run, as V8 counts it: what guides the choice of inputs.
import { Session } from "node:inspector/promises";

/** Coverage of the built code of one package. */
export class Coverage {
  #session = new Session();
  #part;

  /** @param part - What the addresses of the code have in common. */
  constructor(part) {
    this.#part = part;
  }

  /** Counts from now on, which makes the code several times slower. */
  async start() {
    this.#session.connect();
    await this.#session.post("Profiler.enable");
    await this.#session.post("Profiler.startPreciseCoverage", { callCount: true, detailed: true });
  }

  async stop() {
    await this.#session.post("Profiler.stopPreciseCoverage");
    this.#session.disconnect();
  }

  /** @returns The places that ran since this was last asked. */
  async take() {
    const { result } = await this.#session.post("Profiler.takePreciseCoverage");
    const places = [];
    for (const { url, functions } of result) {
      if (!url.includes(this.#part)) continue;
      for (const { ranges } of functions) {
        for (const { startOffset, endOffset, count } of ranges) {
          if (count > 0) places.push(`${url}:${startOffset}:${endOffset}`);
        }
      }
    }
    return places;
  }
}
