import { resolve } from "node:path";
import { type CommandIo, countText, escapeName, formatBytes, style, writeJson } from "@leveret/command";
import type { Command } from "commander";
import type { ByteSink } from "../block-source.ts";
import { type ExtractReport, extractErofs } from "../extract.ts";
import { atomic } from "../internal/files.ts";
import type { ErofsImage } from "../read/image.ts";
import { formatXattrDump } from "../write/xattr-dump.ts";
import { type ImageOptions, withImage, withImageOptions } from "./open.ts";

type ExtractOptions = ImageOptions & {
  readonly owners?: boolean;
  readonly setId?: boolean;
  readonly xattrs?: string;
};

/** Adds `extract`. */
export function addExtractCommand(program: Command, io: CommandIo): void {
  withImageOptions(program.command("extract").description("write a tree of an image into a new directory"))
    .argument("<image>")
    .argument("<directory>", "directory to make")
    .argument("[path]", "path inside the image", "/")
    .option("--owners", "give everything its owner and set-id bits, which takes root")
    .option("--set-id", "set-id and sticky bits also without owners: set-user-id files become yours")
    .option("--xattrs <file>", "write the xattrs, which Node cannot set, as `setfattr -h --restore` takes them")
    .addHelpText(
      "after",
      `
Xattrs can be set afterwards:
  erofs-meta extract usr.erofs out --xattrs usr.xattrs
  cd out && setfattr -h --restore=../usr.xattrs`,
    )
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
  const dump = options.xattrs === undefined ? undefined : resolve(io.cwd, options.xattrs);
  if (dump !== undefined) await atomic.assertNoInput(dump, [resolve(io.cwd, file)]);
  await withImage(io, file, options, async (image) => {
    const destination = resolve(io.cwd, directory);
    const run = (sink?: ByteSink): Promise<ExtractReport> => extractWith(io, image, destination, path, options, sink);
    const report = dump === undefined ? await run() : await atomic.write(dump, run);
    if (options.json === true) writeJson(io, { kind: "erofs-extract", version: 1, ...report });
    else io.stdout.write(reportText(report));
    warn(io, report, options);
  });
}

/** @param sink - gets the xattrs as text */
async function extractWith(
  io: CommandIo,
  image: ErofsImage,
  destination: string,
  from: string,
  { owners, setId }: ExtractOptions,
  sink: ByteSink | undefined,
): Promise<ExtractReport> {
  let position = 0;
  return extractErofs(image, destination, {
    from,
    owners,
    setId,
    onXattrs:
      sink &&
      (async ({ path, xattrs }) => {
        const bytes = Buffer.from(formatXattrDump(path, xattrs));
        await sink.write(position, bytes);
        position += bytes.byteLength;
      }),
    signal: io.signal,
  });
}

function reportText({ files, directories, symlinks, hardLinks, contentBytes, skipped }: ExtractReport): string {
  const counts = [
    countText(files, "file"),
    countText(directories, "directory", "directories"),
    countText(symlinks, "symlink"),
    countText(hardLinks, "hard link"),
    formatBytes(contentBytes),
  ];
  return [counts.join(", "), ...skipped.map(({ path, type }) => `skipped ${escapeName(path)}, a ${type}`), ""].join(
    "\n",
  );
}

/** Says what is missing, on standard error: whoever looks only at what was extracted would not see it. */
function warn(io: CommandIo, { withoutXattrs, withoutSetId }: ExtractReport, { xattrs }: ExtractOptions): void {
  const lines: string[] = [];
  if (withoutXattrs > 0 && xattrs === undefined) {
    const what = `xattrs of ${countText(withoutXattrs, "name")} were not set, because Node cannot`;
    lines.push(`${what}; --xattrs FILE writes what setfattr -h --restore=FILE sets`);
  }
  if (withoutSetId > 0) {
    lines.push(
      `set-id or sticky bits of ${countText(withoutSetId, "name")} were left out; --set-id or --owners keeps them`,
    );
  }
  for (const line of lines) io.stderr.write(`${style(io.stderr, io.env, "yellow", "warning")}: ${line}\n`);
}
