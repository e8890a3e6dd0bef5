// Runs in a mount namespace of its own, in which a directory has hardly any room: does one thing there and prints, as
// JSON, how it failed and what it left.
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { buildImage } from "../../src/image/image.ts";
import { createFile, replaceFile } from "../../src/internal/files.ts";
import { projectIn, TINY_LOCK, writeArtefacts } from "./system.ts";

const [what = "", directory = "", full = ""] = process.argv.slice(2);

const ACTIONS: Readonly<Record<string, () => Promise<unknown>>> = {
  image: async () =>
    buildImage(projectIn(directory), {
      artefacts: await writeArtefacts(directory),
      lock: TINY_LOCK,
      stateDirectory: join(directory, "state"),
      outputDirectory: join(directory, "images"),
    }),
  replace: () => replaceFile(join(full, "file"), "x".repeat(1_000_000)),
  create: () => createFile(join(full, "file"), "x".repeat(1_000_000)),
};

const outcome = await ACTIONS[what]?.().then(
  () => "nothing failed",
  (error: unknown) => (error instanceof Error && "code" in error ? error.code : String(error)),
);
process.stdout.write(JSON.stringify({ outcome, left: await readdir(full) }));
