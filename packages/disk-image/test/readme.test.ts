import { readFileSync } from "node:fs";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test, vi } from "vitest";
import { main } from "../src/cli.ts";
import * as api from "../src/index.ts";
import { capture, noise, scratch } from "./support.ts";

const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
const [program = ""] = blocks("ts");
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

describe("the README", () => {
  test("shows a program and what it prints", async () => {
    const folder = await workspace();
    const file = join(folder, "example.ts");
    const library = JSON.stringify(new URL("../src/index.ts", import.meta.url).pathname);
    const placed = program
      .replace('"@leveret/disk-image"', library)
      .replaceAll(/"(os\.\w+|usr\.erofs)"/g, (_, name: string) => JSON.stringify(join(folder, name)));
    await writeFile(file, placed);
    const log = vi.spyOn(console, "log").mockImplementation(() => {});
    await import(file);
    expect(log.mock.calls.map((words) => `${words.join(" ")}\n`).join("")).toBe(output);
    log.mockRestore();
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

  test("lists every function, class and constant", () => {
    expect(Object.keys(api).filter((name) => !readme.includes(name))).toEqual([]);
  });

  test("lists every error code, and no other", () => {
    const codes = (text: string): string[] => [...new Set(text.match(/\bDISK_[A-Z_]+\b/g))].sort();
    const source = readFileSync(new URL("../src/errors.ts", import.meta.url), "utf8");
    expect(codes(readme)).toEqual(codes(source));
  });
});
