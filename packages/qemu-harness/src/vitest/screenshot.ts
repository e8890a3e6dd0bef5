import { mkdir, readFile, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import * as z from "zod";
import { parseOptions } from "../description.ts";
import { QemuError } from "../errors.ts";
import type { WaitOptions } from "../internal/wait.ts";
import type { Machine } from "../machine.ts";
import type { Found } from "./matchers.ts";
import { decodePng, encodePng, type Picture } from "./png.ts";

const area = z.strictObject({
  x: z.number().int().min(0),
  y: z.number().int().min(0),
  width: z.number().int().min(1),
  height: z.number().int().min(1),
});

const optionsSchema = z.strictObject({
  /** share of the pixels that may differ, 0 to 1 */
  tolerance: z.number().min(0).max(1).default(0.001),
  /** how far red, green or blue of a pixel may be off without being different, 0 to 255 */
  threshold: z.number().int().min(0).max(255).default(16),
  /** parts of the display that do not matter, such as a clock */
  ignore: z.array(area).default([]),
});

/** How alike a display and a stored picture have to be, and how long that may take. */
export interface ScreenshotOptions extends z.input<typeof optionsSchema>, WaitOptions {}

/** Where pictures are stored, and what may be done to them. */
export interface ScreenshotPlace {
  readonly testPath: string;
  /** directory for what a failed test leaves */
  readonly results: string;
  /** `none` in CI, `all` with `--update` */
  readonly update: "all" | "new" | "none";
}

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/;
const DEFAULT_TIMEOUT_MS = 10_000;
const LOOK_AGAIN_MS = 250;
/** Colour of what differs. */
const MARK = [255, 0, 80] as const;

/** Whether the display shows what it showed when the picture was stored. */
export async function matchesScreenshot(
  machine: Machine,
  name: string,
  { timeoutMs = DEFAULT_TIMEOUT_MS, signal, ...options }: ScreenshotOptions,
  { testPath, results, update }: ScreenshotPlace,
): Promise<Found> {
  if (!NAME.test(name)) throw new TypeError(`expected letters, digits, dots and hyphens, got ${JSON.stringify(name)}`);
  const limits = parseOptions("screenshot options", optionsSchema, options);
  const path = join(dirname(testPath), "__screenshots__", basename(testPath), `${name}.png`);
  const stored = await readFile(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw new QemuError("QEMU_FILE", `cannot read ${path}: ${error.message}`, { path, cause: error });
  });
  const take = async (): Promise<Picture> => decodePng(await machine.screen.screenshot({ signal }), "the display");
  if (stored === undefined || update === "all") {
    if (update === "none") return missing(path);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, encodePng(await take()));
    return { pass: true, message: () => `expected the display not to be as in ${path}, which was just written` };
  }
  const expected = decodePng(stored, path);
  const until = Date.now() + timeoutMs;
  for (;;) {
    const got = await take();
    const difference = compare(expected, got, limits);
    if (difference.share <= limits.tolerance) {
      return { pass: true, message: () => `expected the display not to be as in ${path}, got it` };
    }
    if (Date.now() >= until) return differs(path, join(results, name), got, difference);
    await sleep(LOOK_AGAIN_MS, undefined, signal && { signal });
  }
}

/** What differs between two pictures. */
interface PictureDifference {
  /** share of the pixels, 1 for pictures of different sizes */
  readonly share: number;
  readonly what: string;
  /** the picture that was expected, pale, with the pixels marked that differ; none for different sizes */
  readonly picture?: Picture;
}

/** Compares two pictures pixel by pixel. */
export function compare(
  expected: Picture,
  got: Picture,
  { threshold, ignore }: Pick<z.output<typeof optionsSchema>, "threshold" | "ignore">,
): PictureDifference {
  const { width, height } = expected;
  if (got.width !== width || got.height !== height) {
    return { share: 1, what: `${got.width} by ${got.height} pixels instead of ${width} by ${height}` };
  }
  const ignored = new Uint8Array(width * height);
  for (const each of ignore) {
    for (let y = each.y; y < Math.min(height, each.y + each.height); y += 1) {
      ignored.fill(1, y * width + Math.min(width, each.x), y * width + Math.min(width, each.x + each.width));
    }
  }
  const pixels = new Uint8Array(expected.pixels.length);
  let count = 0;
  for (let index = 0; index < ignored.length; index += 1) {
    const at = index * 3;
    const off = (channel: number): number =>
      Math.abs((expected.pixels[at + channel] ?? 0) - (got.pixels[at + channel] ?? 0));
    const isOff = ignored[index] === 0 && Math.max(off(0), off(1), off(2)) > threshold;
    if (isOff) count += 1;
    for (const channel of [0, 1, 2] as const) {
      pixels[at + channel] = isOff ? MARK[channel] : 192 + ((expected.pixels[at + channel] ?? 0) >> 2);
    }
  }
  const share = count / ignored.length;
  return {
    share,
    what: `${count} pixels (${(share * 100).toFixed(2)} %) that differ`,
    picture: { width, height, pixels },
  };
}

function missing(path: string): Found {
  const message = `expected a stored picture at ${path}, got none, and new ones are not written in CI`;
  return { pass: false, message: () => `${message}; run the test once elsewhere and commit the picture` };
}

async function differs(path: string, kept: string, got: Picture, difference: PictureDifference): Promise<Found> {
  await mkdir(dirname(kept), { recursive: true });
  await writeFile(`${kept}-actual.png`, encodePng(got));
  const { picture } = difference;
  if (picture !== undefined) await writeFile(`${kept}-difference.png`, encodePng(picture));
  const where = picture === undefined ? `${kept}-actual.png` : `${kept}-{actual,difference}.png`;
  const hint = "if that is right, run vitest with --update";
  return {
    pass: false,
    message: () => `expected the display as in ${path}, got ${difference.what}; see ${where}; ${hint}`,
  };
}
