import { relative, resolve } from "node:path";
import { type CommandIo, formatBytes, table, withProgress, writeJson } from "@leveret/command";
import { buildProjectImage } from "../pipeline.ts";

export async function image(path: string, flags: { output?: string; json?: true }, io: CommandIo): Promise<void> {
  const built = await withProgress(io, (onProgress) =>
    buildProjectImage(resolve(io.cwd, path), {
      env: io.env,
      outputDirectory: flags.output === undefined ? undefined : resolve(io.cwd, flags.output),
      signal: io.signal,
      onProgress,
    }),
  );
  const { record, disk, uki, upToDate } = built.image;
  if (flags.json) return writeJson(io, { ...record, disk, uki, upToDate });
  const from = (file: string): string => relative(io.cwd, file) || file;
  io.stdout.write(
    `${table([
      [
        "image",
        from(disk),
        `${formatBytes(record.usedBytes)} used of ${formatBytes(record.sizeBytes)}${upToDate ? ", up to date" : ""}`,
      ],
      ["kernel image", from(uki), formatBytes(record.ukiBytes)],
      ["/usr", `${record.rootHash.slice(0, 16)}…`, `${formatBytes(record.usrBytes)}, root hash signed`],
    ])}\n`,
  );
}
