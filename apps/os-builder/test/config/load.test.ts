import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { CONFIG_FILE, loadProject } from "../../src/index.ts";
import { rejectionOf, scratch } from "../support/io.ts";

async function projectWith(text: string, file = CONFIG_FILE): Promise<string> {
  const directory = await scratch();
  await writeFile(join(directory, file), text);
  return directory;
}

const GOOD = `import { debian, defineOs } from "@leveret/os-builder";
export default defineOs({ id: "os", version: "1", source: debian({ suite: "trixie" }) });`;

describe("loadProject", () => {
  test("loads a description where this package is not installed", async () => {
    const directory = await projectWith(GOOD);
    expect(await loadProject(directory)).toMatchObject({
      directory,
      configFile: join(directory, CONFIG_FILE),
      config: { id: "os", packages: [], disk: { usrMiB: 512 } },
    });
  });

  test("takes the path of a file, whatever its name", async () => {
    const directory = await projectWith(GOOD, "other.ts");
    expect(await loadProject(join(directory, "other.ts"))).toMatchObject({ directory, config: { id: "os" } });
  });

  test("loads a description that imports files and waits", async () => {
    const directory = await projectWith(`import { suite } from "./suite.ts";
      import packages from "./packages.json" with { type: "json" };
      const version: string = await Promise.resolve("2");
      export default { id: "os", version, source: { kind: "debian", suite }, packages };`);
    await writeFile(join(directory, "suite.ts"), 'export const suite = "sid" satisfies string;');
    await writeFile(join(directory, "packages.json"), '["less"]');
    const { config } = await loadProject(directory);
    expect(config).toMatchObject({ version: "2", source: { suite: "sid" }, packages: ["less"] });
  });

  test("sees what changed since the last time", async () => {
    const directory = await projectWith(GOOD);
    await loadProject(directory);
    await writeFile(join(directory, CONFIG_FILE), GOOD.replace('version: "1"', 'version: "2"'));
    expect((await loadProject(directory)).config.version).toBe("2");
  });

  test.each([
    ["is missing", undefined, "OS_NO_CONFIG", /expected a description in .*os\.config\.ts, found none/],
    ["does not compile", "export default defineOs({", "OS_CONFIG_FAILED", /Unexpected token.*/],
    ["throws", 'throw new Error("not today");', "OS_CONFIG_FAILED", /to load, got: not today$/],
    ["throws something odd", "throw Object.create(null);", "OS_CONFIG_FAILED", /to load, got: \[Object: null/],
    ["imports what is not there", 'import "./nothing.ts";', "OS_CONFIG_FAILED", /nothing\.ts/],
    ["exports nothing", "export const os = 1;", "OS_CONFIG_FAILED", /expected a default export in .*, got none/],
    ["exports undefined", "export default undefined;", "OS_BAD_CONFIG", /\(the description\): expected object/],
    [
      "exports a mistake",
      `${GOOD.slice(0, -3)}, disk: { usr: 1 } });`,
      "OS_BAD_CONFIG",
      /one mistake in .*\n {2}disk\.usr: unknown key$/,
    ],
  ] as const)("refuses a description that %s", async (_, text, code, message) => {
    const directory = text === undefined ? await scratch() : await projectWith(text);
    const error = await rejectionOf(loadProject(directory));
    expect(error.code).toBe(code);
    expect(error.message).toMatch(message);
    expect(error.path).toBe(join(directory, CONFIG_FILE));
  });

  test("does not take a directory for a description", async () => {
    const directory = await scratch();
    await mkdir(join(directory, CONFIG_FILE));
    expect(await rejectionOf(loadProject(directory))).toMatchObject({ code: "OS_NO_CONFIG" });
  });

  test("keeps every mistake on the error", async () => {
    const error = await rejectionOf(loadProject(await projectWith("export default { id: 1, packages: {} };")));
    expect(error.message).toMatch(/^4 mistakes in /);
    expect(error.issues?.map(({ path }) => path)).toEqual(["id", "version", "source", "packages"]);
  });
});
