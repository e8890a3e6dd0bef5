import { readFileSync } from "node:fs";
import { open, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test, vi } from "vitest";
import { main } from "../src/cli.ts";
import * as api from "../src/index.ts";
import { capture, scratch } from "./support.ts";

const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
const [program = ""] = blocks("ts");
const [output = "", session = "", damage = ""] = blocks("text");

function blocks(language: string): string[] {
  return [...readme.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\`$`, "gms"))].map(([, text = ""]) => text);
}

/** Runs the program of the README in a folder, and returns what it prints. */
async function runProgram(folder: string): Promise<string> {
  const file = join(folder, "example.ts");
  const library = JSON.stringify(new URL("../src/index.ts", import.meta.url).pathname);
  const placed = program
    .replace('"@leveret/erofs-meta"', library)
    .replaceAll(/"(usr\.\w+)"/g, (_, name: string) => JSON.stringify(join(folder, name)));
  await writeFile(file, placed);
  const log = vi.spyOn(console, "log").mockImplementation(() => {});
  await import(file);
  const printed = log.mock.calls.map((words) => `${words.join(" ")}\n`).join("");
  log.mockRestore();
  return printed;
}

/** Runs the commands of a session, and returns the session as it is now. */
async function runSession(text: string, folder: string): Promise<string> {
  let now = "";
  for (const step of text.split(/^\$ /m).slice(1)) {
    const [command = ""] = step.split("\n", 1);
    const { io, out, err } = capture(folder);
    await main(command.split(" ").slice(1), io);
    now += `$ ${command}\n${out()}${err()}`;
  }
  return now;
}

describe("the README", () => {
  test("shows a program, sessions, and what they print", async () => {
    const folder = await scratch();
    expect(await runProgram(folder)).toBe(output);
    expect(await runSession(session, folder)).toBe(session);
    const whole = await readFile(join(folder, "usr.erofs"));
    const handle = await open(join(folder, "usr.erofs"), "r+");
    await handle.write(Uint8Array.of(0x55), 0, 1, 5000);
    await handle.close();
    expect(await runSession(damage, folder)).toBe(damage);
    expect((await readFile(join(folder, "usr.erofs"))).equals(whole)).toBe(true);
  });

  test("lists every function, class and constant", () => {
    expect(Object.keys(api).filter((name) => !readme.includes(name))).toEqual([]);
  });

  test("lists every error code, and no other", () => {
    const codes = (text: string): string[] => [...new Set(text.match(/\bEROFS_[A-Z_]+\b/g))].sort();
    const source = readFileSync(new URL("../src/errors.ts", import.meta.url), "utf8");
    expect(codes(readme)).toEqual(codes(source));
  });
});
