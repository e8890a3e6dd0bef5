import type { CommandIo } from "@leveret/command";
import type { SerialConsole } from "@leveret/qemu-harness";

/** Ctrl-A, as QEMU has it: what comes next is for this program. */
const ESCAPE = 0x01;
const QUIT = "x".charCodeAt(0);

/** What a chunk from a terminal says. */
interface Keys {
  /** what goes to the guest */
  readonly typed: Uint8Array;
  /** whether the person wants out; what comes behind is dropped */
  readonly quit: boolean;
}

/**
 * Tells what is for the guest from what is for this program: Ctrl-A x ends it, Ctrl-A twice is one for the guest, and
 * before anything else it means nothing.
 */
export class EscapeReader {
  #escaped = false;

  read(chunk: Uint8Array): Keys {
    const typed: number[] = [];
    for (const byte of chunk) {
      if (!this.#escaped && byte === ESCAPE) {
        this.#escaped = true;
        continue;
      }
      if (this.#escaped && byte === QUIT) return { typed: Uint8Array.from(typed), quit: true };
      this.#escaped = false;
      typed.push(byte);
    }
    return { typed: Uint8Array.from(typed), quit: false };
  }
}

/** What is typed, on its way to a guest. */
interface Keyboard {
  /** resolves when the person wants out */
  readonly escaped: Promise<undefined>;
  /** Leaves the terminal as it was. */
  readonly close: () => void;
}

/** Connects standard input with a console: a terminal key by key, anything else as it comes. */
export function connectKeyboard(console: SerialConsole, io: CommandIo): Keyboard {
  const { stdin } = process;
  const hasTerminal = stdin.isTTY === true && io.stdout.isTTY === true;
  const reader = new EscapeReader();
  let leave = (): void => {};
  const escaped = new Promise<undefined>((done) => {
    leave = () => done(undefined);
  });
  const onData = (chunk: Uint8Array): void => {
    const { typed, quit } = hasTerminal ? reader.read(chunk) : { typed: chunk, quit: false };
    // One chunk after the other: a guest that does not read holds up who types, not this program's memory.
    stdin.pause();
    console.write(typed, { timeoutMs: Number.POSITIVE_INFINITY, signal: io.signal }).then(
      () => stdin.resume(),
      // The guest has ended, which whoever waits for that is told.
      () => {},
    );
    if (quit) leave();
  };
  if (hasTerminal) {
    stdin.setRawMode(true);
    io.stderr.write("Ctrl-A x ends the guest\r\n");
  }
  stdin.on("data", onData);
  return {
    escaped,
    close: () => {
      stdin.off("data", onData);
      if (hasTerminal) stdin.setRawMode(false);
      // Nothing more is read, so nothing keeps this process alive.
      stdin.destroy();
    },
  };
}
