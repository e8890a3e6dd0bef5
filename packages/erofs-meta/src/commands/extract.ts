import { resolve } from "node:path";
import { type CommandIo, escapeName, formatBytes, writeJson } from "@leveret/command";
import type { Command } from "commander";
import { extractErofs } from "../extract.ts";
import { type ImageOptions, withImage, withImageOptions } from "./open.ts";

type ExtractOptions = ImageOptions & { readonly owners?: boolean };

/** Adds `extract`. */
export function addExtractCommand(program: Command, io: CommandIo): void {
  withImageOptions(program.command("extract").description("write a tree of an image into a new directory"))
    .argument("<image>")
    .argument("<directory>", "directory to make")
    .argument("[path]", "path inside the image", "/")
    .option("--owners", "give everything its owner and set-id bits, which takes root")
    .action((image: string, directory: string, path: string, options: ExtractOptions) =>
      extract(io, image, directory, path, options),
    );
}

async function extract(
  io: CommandIo,
  file: string,
  directory: string,
  path: string,
  options: ExtractOptions,
): Promise<void> {
  await withImage(io, file, options, async (image) => {
    const report = await extractErofs(image, resolve(io.cwd, directory), {
      from: path,
      owners: options.owners,
      signal: io.signal,
    });
    if (options.json === true) {
      writeJson(io, { kind: "erofs-extract", version: 1, ...report });
      return;
    }
    const { files, directories, symlinks, hardLinks, contentBytes, skipped } = report;
    const counts = `${files} files, ${directories} directories, ${symlinks} symlinks, ${hardLinks} hard links`;
    io.stdout.write(`${counts}, ${formatBytes(contentBytes)}\n`);
    for (const one of skipped) io.stdout.write(`skipped ${escapeName(one.path)}, a ${one.type}\n`);
  });
}
