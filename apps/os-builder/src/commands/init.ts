import { mkdir, stat, writeFile } from "node:fs/promises";
import { basename, join, relative, resolve } from "node:path";
import { type CommandIo, UsageError, writeJson } from "@leveret/command";
import { generateKeys } from "@leveret/uki-sign";
import { CONFIG_FILE } from "../config/load.ts";
import { renderStarter, STARTER_GITIGNORE } from "../config/starter.ts";

/** Makes what is missing and leaves alone what is there. */
export async function init(directory: string, flags: { id?: string; json?: true }, io: CommandIo): Promise<void> {
  const root = resolve(io.cwd, directory);
  const id =
    flags.id ??
    basename(root)
      .toLowerCase()
      .replace(/[^a-z0-9.-]+/g, "-")
      .replace(/^[^a-z]+/, "")
      .slice(0, 32);
  if (!/^[a-z][a-z0-9.-]{0,31}$/.test(id)) {
    throw new UsageError(
      `expected an id of a-z, 0-9, dot and dash, got ${JSON.stringify(flags.id ?? basename(root))}; use --id`,
    );
  }
  await mkdir(root, { recursive: true });
  const made: string[] = [];
  const write = async (name: string, text: string): Promise<void> => {
    const created = await writeFile(join(root, name), text, { flag: "wx" }).then(() => true, isThere);
    if (created) made.push(join(root, name));
  };
  await write(CONFIG_FILE, renderStarter(id));
  await write(".gitignore", STARTER_GITIGNORE);
  if ((await stat(join(root, "keys")).catch(() => undefined)) === undefined) {
    await generateKeys(join(root, "keys"), { name: id });
    made.push(join(root, "keys"));
  }
  if (flags.json) return writeJson(io, { kind: "os-init", version: 1, directory: root, made });
  for (const path of made) io.stdout.write(`made ${relative(io.cwd, path)}\n`);
  if (made.length === 0) io.stdout.write("nothing was missing\n");
}

function isThere(error: NodeJS.ErrnoException): boolean {
  if (error.code !== "EEXIST") throw error;
  return false;
}
