import { Duplex } from "node:stream";
import { finished } from "node:stream/promises";
import { type ConsoleEnd, type ConsoleStream, SerialConsole } from "./console.ts";
import type { ResolvedMachine } from "./description.ts";
import { endsWithin } from "./internal/wait.ts";
import type { TimelineRecorder } from "./timeline/recorder.ts";

/** What the consoles of a machine are connected with. */
interface Parts {
  readonly consoles: ResolvedMachine["consoles"];
  readonly commandLine: string;
  /** those that are pipes, by name */
  readonly pipes: ReadonlyMap<string, ConsoleStream> | undefined;
  /** socket of a console of type `port`, by its place in the description */
  readonly portSocket: (index: number) => Duplex;
  readonly recorder: TimelineRecorder;
  readonly onConsole: ((name: string, chunk: Uint8Array) => void) | undefined;
}

/** How long after the end of QEMU a pipe may stay open, for example because a descendant holds it. */
const DRAIN_TIMEOUT_MS = 2000;

/** The consoles of one machine. */
export class MachineConsoles {
  readonly #parts: Parts;
  readonly #consoles: readonly SerialConsole[];

  constructor(parts: Parts) {
    this.#parts = parts;
    const { commandLine, recorder, onConsole } = parts;
    this.#consoles = parts.consoles.map(({ name, type }, index) => {
      const onText = type === "port" ? undefined : (text: string) => recorder.text(name, text);
      const serial = new SerialConsole(this.#stream(name, index), { name, commandLine, onText });
      if (onConsole !== undefined) serial.onOutput((chunk) => onConsole(name, chunk));
      return serial;
    });
  }

  /** The first one. */
  get first(): SerialConsole {
    const [first] = this.#consoles;
    if (first === undefined) throw new Error("bug: the schema asks for at least one console");
    return first;
  }

  /** What {@link Machine.console} does. */
  get(name: string): SerialConsole {
    const found = this.#consoles.find((item) => item.name === name);
    if (found !== undefined) return found;
    const names = this.#consoles.map((item) => item.name).join(", ");
    throw new TypeError(`expected the name of a console (${names}), got ${JSON.stringify(name)}`);
  }

  /** What {@link Machine.port} does. */
  port(name: string): Duplex {
    const index = this.#parts.consoles.findIndex((item) => item.name === name && item.type !== "serial");
    if (index < 0) {
      throw new TypeError(`expected the name of a console of type port or virtio, got ${JSON.stringify(name)}`);
    }
    this.get(name).release();
    const { input, output } = this.#stream(name, index);
    return input instanceof Duplex && input === output ? input : Duplex.from({ readable: output, writable: input });
  }

  /** Reads what the guest wrote last, when QEMU has ended. */
  async drain(): Promise<void> {
    const streams = [...(this.#parts.pipes?.values() ?? [])];
    const drained = streams.map(({ output }) => finished(output, { writable: false }).catch(() => {}));
    await endsWithin(Promise.all(drained), DRAIN_TIMEOUT_MS);
    for (const { input, output } of streams) {
      input.destroy();
      output.destroy();
    }
  }

  /** Fails whatever is still waited for. */
  end(end: ConsoleEnd): void {
    for (const serial of this.#consoles) serial.end(end);
  }

  #stream(name: string, index: number): ConsoleStream {
    const pipes = this.#parts.pipes?.get(name);
    if (pipes !== undefined) return pipes;
    const socket = this.#parts.portSocket(index);
    return { input: socket, output: socket };
  }
}
