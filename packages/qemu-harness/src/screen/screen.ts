import { closeSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { QemuError } from "../errors.ts";
import type { WaitOptions } from "../internal/wait.ts";
import type { QmpClient } from "../qmp.ts";
import { chordsOf, type KeyChord, type KeyName } from "./keys.ts";
import { decodePpm, forReading } from "./picture.ts";
import type { ReadText } from "./read-text.ts";

/** How long {@link Screen.waitForText} waits unless told otherwise, in `milliseconds`. */
export const DEFAULT_SCREEN_TIMEOUT_MS = 60_000;

/** How long a key is down, and then up, in `milliseconds` of the guest's time. */
const HOLD_MS = 20;
/** QEMU keeps a thousand steps of typing in mind and forgets more: two keys with four each, and room for others. */
const KEYS_AT_ONCE = 64;
/** How long a screen that has not changed is left alone, in `milliseconds`. */
const LOOK_AGAIN_MS = 250;
/** Greatest coordinate of QEMU's absolute pointers. */
const POINTER_RANGE = 0x7fff;

/** A button of the mouse. */
export type MouseButton = "left" | "middle" | "right";

/** The display, keyboard and mouse of a machine with `graphics`. */
export interface Screen {
  /**
   * What the display shows, as a PNG file.
   *
   * @throws {QemuError} `QEMU_QMP_COMMAND_FAILED` with QEMU's reason, `QEMU_QMP_TIMEOUT`, `QEMU_CLOSED`, `QEMU_ABORTED`.
   * @example
   * await writeFile("login.png", await machine.screen.screenshot());
   */
  readonly screenshot: (options?: WaitOptions) => Promise<Uint8Array>;
  /**
   * Presses keys together, and lets them go.
   *
   * @param keys - QEMU's names for them.
   * @throws {QemuError} `QEMU_QMP_BAD_ARGUMENTS` for a key that there is not.
   * @example
   * await machine.screen.press("ctrl", "alt", "delete");
   */
  readonly press: (...keys: KeyName[]) => Promise<void>;
  /**
   * Types a text on a keyboard with the layout of the United States; returns when the last keys are on their way.
   *
   * @throws {QemuError} `QEMU_BAD_OPTIONS` for a character that this layout does not have, before anything is typed.
   */
  readonly type: (text: string) => Promise<void>;
  /**
   * Moves the mouse to a pixel, counted from the upper left corner, and clicks there.
   *
   * @throws {QemuError} `QEMU_BAD_OPTIONS` for a point outside of the display.
   */
  readonly click: (x: number, y: number, button?: MouseButton) => Promise<void>;
  /** Moves the mouse to a pixel. */
  readonly moveTo: (x: number, y: number) => Promise<void>;
  /**
   * What the display says, as far as tesseract can read it: now and then a letter is wrong.
   *
   * @throws {QemuError} `QEMU_TOOL_NOT_FOUND` without tesseract, `QEMU_OCR_FAILED`, and as {@link Screen.screenshot}.
   */
  readonly text: (options?: WaitOptions) => Promise<string>;
  /**
   * Waits for a text on the display; looks whenever the picture has changed.
   *
   * @param pattern - A text, or a regular expression.
   * @param options - Limit, default {@link DEFAULT_SCREEN_TIMEOUT_MS}, and signal.
   * @returns All that the display says then.
   * @throws {QemuError} `QEMU_SCREEN_TIMEOUT` with what the display says, and as {@link Screen.text}.
   * @example
   * await machine.screen.waitForText(/Install\s+Debian/);
   */
  readonly waitForText: (pattern: string | RegExp, options?: WaitOptions) => Promise<string>;
}

interface Parts {
  readonly qmp: () => QmpClient;
  /** unnamed file that QEMU writes pictures to */
  readonly file: number;
  /** name of that file in QEMU */
  readonly fileName: string;
  readonly readText: ReadText;
}

/** The only implementation of {@link Screen}; owns its file. */
export class MachineScreen implements Screen {
  readonly #parts: Parts;
  #last: Promise<unknown> = Promise.resolve();
  #closed = false;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  async screenshot(options: WaitOptions = {}): Promise<Uint8Array> {
    return this.#picture("png", options);
  }

  async press(...keys: KeyName[]): Promise<void> {
    await this.#send(keys);
  }

  async type(text: string): Promise<void> {
    const chords = chordsOf(text);
    for (const [index, chord] of chords.entries()) {
      if (index > 0 && index % KEYS_AT_ONCE === 0) await sleep(KEYS_AT_ONCE * HOLD_MS * 4);
      await this.#send(chord);
    }
  }

  async moveTo(x: number, y: number): Promise<void> {
    const { width, height } = decodePpm(await this.#picture("ppm", {}));
    if (!(x >= 0 && x < width && y >= 0 && y < height)) {
      const message = `expected a point of the ${width} by ${height} pixels, got ${x}, ${y}`;
      throw new QemuError("QEMU_BAD_OPTIONS", message, { issues: [{ path: "x, y", message }] });
    }
    const place = (value: number, size: number): number => Math.round((value * POINTER_RANGE) / Math.max(1, size - 1));
    await this.#parts.qmp().execute("input-send-event", {
      events: [
        { type: "abs", data: { axis: "x", value: place(x, width) } },
        { type: "abs", data: { axis: "y", value: place(y, height) } },
      ],
    });
  }

  async click(x: number, y: number, button: MouseButton = "left"): Promise<void> {
    await this.moveTo(x, y);
    for (const down of [true, false]) {
      await this.#parts.qmp().execute("input-send-event", { events: [{ type: "btn", data: { down, button } }] });
    }
  }

  async text(options: WaitOptions = {}): Promise<string> {
    return this.#read(await this.#picture("ppm", options), options);
  }

  async waitForText(pattern: string | RegExp, options: WaitOptions = {}): Promise<string> {
    const { timeoutMs = DEFAULT_SCREEN_TIMEOUT_MS, signal } = options;
    const until = Date.now() + timeoutMs;
    let seen: Uint8Array | undefined;
    let said = "";
    const isLate = (): boolean => Date.now() >= until;
    while (!isLate()) {
      const limits = { timeoutMs: Math.max(1, until - Date.now()), signal };
      try {
        const picture = await this.#picture("ppm", limits);
        if (seen === undefined || Buffer.compare(seen, picture) !== 0) {
          seen = picture;
          said = await this.#read(picture, limits);
          if (typeof pattern === "string" ? said.includes(pattern) : said.search(pattern) >= 0) return said;
        } else await sleep(Math.min(LOOK_AGAIN_MS, limits.timeoutMs), undefined, signal && { signal }).catch(() => {});
      } catch (error) {
        // Looking and reading share the limit, and may be what it cuts short.
        if (!isLate() || signal?.aborted === true) throw error;
      }
    }
    const waitedFor = String(pattern);
    const message = `expected ${waitedFor} on the screen within ${timeoutMs} ms, got\n${said.trim()}`;
    throw new QemuError("QEMU_SCREEN_TIMEOUT", message, { waitedFor, timeoutMs });
  }

  /** Closes the file; QEMU has ended. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    closeSync(this.#parts.file);
  }

  async #send(chord: KeyChord): Promise<void> {
    const keys = chord.map((data) => ({ type: "qcode" as const, data }));
    await this.#parts.qmp().execute("send-key", { keys, "hold-time": HOLD_MS });
  }

  async #read(picture: Uint8Array, options: WaitOptions): Promise<string> {
    return this.#parts.readText(await forReading(decodePpm(picture)), options);
  }

  /** One picture after the other: all go through one file. */
  async #picture(format: "png" | "ppm", options: WaitOptions): Promise<Uint8Array> {
    const { qmp, file, fileName } = this.#parts;
    const taken = this.#last.then(async () => {
      await qmp().execute("screendump", { filename: fileName, format }, options);
      // Through the name, because the descriptor's own position is where the last picture ended.
      return new Uint8Array(readFileSync(`/proc/self/fd/${file}`));
    });
    this.#last = taken.catch(() => {});
    return taken;
  }
}
