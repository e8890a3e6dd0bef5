import { stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { createJiti } from "jiti";
import { type ConfigIssue, OsBuilderError } from "../errors.ts";
import { reasonOf } from "../internal/reason.ts";
import { debian, defineOs } from "./define.ts";
import { checkDescription, type OsConfig } from "./schema.ts";

/** Name of the file that describes an operating system. */
export const CONFIG_FILE = "os.config.ts";

/** A checked description and where it is. */
export interface Project {
  /** directory of `os.config.ts`, absolute; every relative path in it starts here */
  readonly directory: string;
  readonly configFile: string;
  readonly config: OsConfig;
}

/**
 * Loads and checks the description in a directory.
 *
 * @param path - A directory with `os.config.ts`, or such a file.
 * @returns The description with all defaults. The file is run anew each time.
 * @throws {OsBuilderError} `OS_NO_CONFIG`, `OS_CONFIG_FAILED` when the file does not compile, throws or exports nothing,
 *   `OS_BAD_CONFIG` with every mistake and its path.
 * @example
 * const { config } = await loadProject("examples/particle");
 */
export async function loadProject(path: string): Promise<Project> {
  const configFile = await findConfig(resolve(path));
  const directory = resolve(configFile, "..");
  const checked = checkDescription(await importDefault(configFile));
  if ("issues" in checked) throw badConfig(configFile, checked.issues);
  return { directory, configFile, config: checked.config };
}

async function findConfig(path: string): Promise<string> {
  const found = await stat(path).catch(() => undefined);
  if (found?.isFile() === true) return path;
  const file = join(path, CONFIG_FILE);
  const inside = await stat(file).catch(() => undefined);
  if (inside?.isFile() === true) return file;
  throw new OsBuilderError("OS_NO_CONFIG", `expected a description in ${file}, found none`, {
    path: file,
    hint: "leveret-os init writes one to start from",
  });
}

async function importDefault(file: string): Promise<unknown> {
  // The description imports this very package, also where that isn't installed beside it.
  const jiti = createJiti(import.meta.url, {
    virtualModules: { "@leveret/os-builder": { debian, defineOs } },
    interopDefault: false,
    fsCache: false,
    moduleCache: false,
  });
  const exported = await jiti.import<object>(file).catch((cause: unknown) => {
    const message = `expected ${file} to load, got: ${reasonOf(cause).trim()}`;
    throw new OsBuilderError("OS_CONFIG_FAILED", message, { cause, path: file });
  });
  if ("default" in exported) return exported.default;
  throw new OsBuilderError("OS_CONFIG_FAILED", `expected a default export in ${file}, got none`, {
    path: file,
    hint: "export default defineOs({ … })",
  });
}

/** All mistakes in a description, as one error. */
export function badConfig(file: string, issues: readonly ConfigIssue[]): OsBuilderError {
  const lines = issues.map(({ path, message }) => `  ${path === "" ? "(the description)" : path}: ${message}`);
  const count = issues.length === 1 ? "one mistake" : `${issues.length} mistakes`;
  return new OsBuilderError("OS_BAD_CONFIG", `${count} in ${file}\n${lines.join("\n")}`, { path: file, issues });
}
