import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { main } from "../src/cli.ts";
import { capture, noise, scratch } from "./support.ts";

const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
const [program = ""] = blocks("js");
const [description = ""] = blocks("json");
const [output = "", session = ""] = blocks("text");

function blocks(language: string): string[] {
  return [...readme.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\`$`, "gms"))].map(([, text = ""]) => text);
}

/** A folder with what the examples read. */
async function workspace(): Promise<string> {
  const folder = await scratch();
  await writeFile(join(folder, "os.efi"), noise(50_000));
  await writeFile(join(folder, "usr.erofs"), noise(53_248, 2));
  await writeFile(join(folder, "usr2.erofs"), noise(40_960, 3));
  await writeFile(join(folder, "os.json"), description);
  return folder;
}

/** Runs the program of the README in a folder as anybody would, and returns what it prints. */
async function runProgram(folder: string): Promise<string> {
  const library = JSON.stringify(new URL("../dist/index.js", import.meta.url).href);
  await writeFile(join(folder, "example.mjs"), program.replace('"@leveret/disk-image"', library));
  const { stdout, stderr } = spawnSync(process.execPath, ["example.mjs"], { cwd: folder, encoding: "utf8" });
  return stdout + stderr;
}

describe("the README", () => {
  test("shows a program and what it prints", async () => {
    const folder = await workspace();
    expect(await runProgram(folder)).toBe(output);
  });

  test("shows a session and what it prints", async () => {
    const folder = await workspace();
    const shown = session.split(/^\$ /m).slice(1);
    expect(shown.length).toBeGreaterThan(3);
    for (const step of shown) {
      const [command = ""] = step.split("\n", 1);
      const { io, out, err } = capture(folder);
      const exitCode = await main(command.split(" ").slice(1), io);
      expect(err()).toBe("");
      expect({ command, exitCode, printed: out() }).toEqual({
        command,
        exitCode: 0,
        printed: step.slice(command.length + 1),
      });
    }
    expect((await readFile(join(folder, "BOOTX64.EFI"))).equals(noise(50_000))).toBe(true);
    expect(await readdir(folder)).toContain("os.raw");
  });
});
