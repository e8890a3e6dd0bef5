import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { open, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { main } from "../src/cli.ts";
import { capture, scratch } from "./support.ts";

const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
const [program = ""] = blocks("js");
const [output = "", session = "", damage = ""] = blocks("text");

function blocks(language: string): string[] {
  return [...readme.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\`$`, "gms"))].map(([, text = ""]) => text);
}

/** Runs the program of the README in a folder as anybody would, and returns what it prints. */
async function runProgram(folder: string): Promise<string> {
  const library = JSON.stringify(new URL("../dist/index.js", import.meta.url).href);
  await writeFile(join(folder, "example.mjs"), program.replace('"@leveret/erofs-meta"', library));
  const { stdout, stderr } = spawnSync(process.execPath, ["example.mjs"], { cwd: folder, encoding: "utf8" });
  return stdout + stderr;
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
});
