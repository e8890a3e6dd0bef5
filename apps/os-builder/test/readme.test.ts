import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createJiti } from "jiti";
import { afterEach, describe, expect, test, vi } from "vitest";
import { buildImage } from "../src/image/image.ts";
import * as api from "../src/index.ts";
import { scratch } from "./support/io.ts";
import { copyKeys, makeKeys } from "./support/keys.ts";
import { projectIn, TINY_LOCK, writeArtefacts } from "./support/system.ts";

const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
const [description = "", program = ""] = blocks("ts");
const [output = ""] = blocks("text");

function blocks(language: string): string[] {
  return [...readme.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\`$`, "gms"))].map(([, text = ""]) => text);
}

afterEach(() => vi.restoreAllMocks());

describe("the README", () => {
  test("shows a description without mistakes", async () => {
    const directory = await scratch();
    await writeFile(join(directory, api.CONFIG_FILE), description);
    expect((await api.loadProject(directory)).config).toMatchObject({ id: "kiosk", disk: { usrMiB: 512 } });
  });

  test("shows a program and what it prints", async () => {
    const directory = await scratch();
    await copyKeys(await makeKeys("tiny"), join(directory, "keys"));
    const { disk } = await buildImage(projectIn(directory), {
      artefacts: await writeArtefacts(directory),
      lock: TINY_LOCK,
      stateDirectory: directory,
      outputDirectory: directory,
    });
    const file = join(directory, "example.ts");
    await writeFile(file, program.replace('"tiny_1.0.raw"', JSON.stringify(disk)));
    const log = vi.spyOn(console, "log").mockImplementation(() => {});
    await createJiti(import.meta.url, { virtualModules: { "@leveret/os-builder": api }, fsCache: false }).import(file);
    expect(log.mock.calls.map(([line]) => `${line}\n`).join("")).toBe(output);
  });

  test("lists every function and constant", () => {
    expect(Object.keys(api).filter((name) => !readme.includes(`\`${name}`))).toEqual([]);
  });

  test("lists every error code, and no other", () => {
    const source = readFileSync(new URL("../src/errors.ts", import.meta.url), "utf8");
    const codes = [...source.matchAll(/\| "(OS_\w+)"/g)].map(([, code]) => code);
    expect([...readme.matchAll(/^\| `(OS_\w+)`/gm)].map(([, code]) => code)).toEqual(codes);
  });
});
