import { mkdir } from "node:fs/promises";
import { basename, join, relative, resolve } from "node:path";
import { type CommandIo, UsageError, writeJson } from "@leveret/command";
import { generateKeys, UkiSignError } from "@leveret/uki-sign";
import { CONFIG_FILE, loadProject } from "../config/load.ts";
import { checkDescription } from "../config/schema.ts";
import { renderStarter, STARTER, STARTER_GITIGNORE } from "../config/starter.ts";
import { createFile, writing } from "../internal/files.ts";
import { loadProjectKeys, SIGNING_ROLES } from "../keys.ts";

/** Makes what is missing and leaves alone what is there. */
export async function init(directory: string, flags: { id?: string; json?: true }, io: CommandIo): Promise<void> {
  const root = resolve(io.cwd, directory);
  const id = flags.id ?? idOf(basename(root));
  const checked = checkDescription({ ...STARTER, id });
  if ("issues" in checked) {
    throw new UsageError(
      `${checked.issues.map(({ message }) => message).join("; ")}, got ${JSON.stringify(id)}; use --id`,
    );
  }
  const made: string[] = [];
  const write = async (name: string, text: string): Promise<void> => {
    if (await createFile(join(root, name), text)) made.push(join(root, name));
  };
  await writing(root, () => mkdir(root, { recursive: true }));
  await write(CONFIG_FILE, renderStarter(id));
  const { config } = await loadProject(root);
  await write(".gitignore", STARTER_GITIGNORE);
  const keys = join(root, config.keys);
  if (await makeKeys(keys, config.id, io.signal)) made.push(keys);
  // Whatever the project's own .gitignore says, or will say.
  await createFile(join(keys, ".gitignore"), "*\n");
  if (flags.json) return writeJson(io, { kind: "os-init", version: 1, directory: root, made });
  for (const path of made) io.stdout.write(`made ${relative(io.cwd, path)}\n`);
  if (made.length === 0) io.stdout.write("nothing was missing\n");
}

function idOf(name: string): string {
  const id = name
    .toLowerCase()
    .replace(/[^a-z0-9.-]+/g, "-")
    .replace(/^[^a-z]+/, "");
  return id.slice(0, 24) || "os";
}

// A hierarchy that lacks files is refused and not completed: new keys among old ones would fit none of them.
async function makeKeys(directory: string, name: string, signal: AbortSignal): Promise<boolean> {
  try {
    await writing(directory, async () => {
      await mkdir(join(directory, ".."), { recursive: true });
      await generateKeys(directory, { name, signal });
    });
    return true;
  } catch (error) {
    if (!(error instanceof UkiSignError) || error.code !== "UKI_SIGN_KEYS_EXIST") throw error;
    await loadProjectKeys(directory, SIGNING_ROLES);
    return false;
  }
}
