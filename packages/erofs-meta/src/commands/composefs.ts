import { resolve } from "node:path";
import { type CommandIo, formatBytes, type InputFlags, withInputOptions, writeJson } from "@leveret/command";
import type { Command } from "commander";
import { memorySource } from "../block-source.ts";
import { formatComposefsDump, parseComposefsDump } from "../composefs/dump.ts";
import { fsVerityDigest } from "../composefs/fs-verity.ts";
import { readComposefs } from "../composefs/read.ts";
import { encodeComposefs } from "../composefs/write.ts";
import { toHex } from "../internal/bytes.ts";
import { atomic, readWhole } from "../internal/files.ts";
import { openInput } from "./input.ts";
import { MAX_DUMP_BYTES, withImage } from "./open.ts";

interface JsonFlag extends InputFlags {
  readonly json?: boolean;
}

/** Adds `composefs build`, `composefs dump` and `composefs digest`. */
export function addComposefsCommands(program: Command, io: CommandIo): void {
  const composefs = program.command("composefs").description("metadata-only images: build them and read them back");
  composefs
    .command("build")
    .description("write an image of a dump, as `mkcomposefs --from-file` does, and print its fs-verity digest")
    .argument("<dump>", "text as in composefs-dump(5)")
    .argument("<image>", "file to write")
    .option("--json", "print one JSON document")
    .action((dump: string, image: string, flags: JsonFlag) => build(io, dump, image, flags));
  withInputOptions(composefs.command("dump"))
    .description("print what an image was made of, as `composefs-info dump` does")
    .argument("<image>")
    .action((image: string, options: InputFlags) => dump(io, image, options));
  withInputOptions(composefs.command("digest"))
    .description("print a file's fs-verity digest: SHA-256, blocks of 4096 bytes, no salt")
    .argument("<file>")
    .option("--json", "print one JSON document")
    .action((file: string, flags: JsonFlag) => digest(io, file, flags));
}

async function build(io: CommandIo, from: string, to: string, { json }: JsonFlag): Promise<void> {
  const [path, output] = [resolve(io.cwd, from), resolve(io.cwd, to)];
  await atomic.assertNoInput(output, [path]);
  const bytes = await readWhole(path, { maxBytes: MAX_DUMP_BYTES, signal: io.signal });
  const image = encodeComposefs(parseComposefsDump(bytes));
  const hex = toHex(await fsVerityDigest(memorySource(image), { signal: io.signal }));
  await atomic.write(output, (sink) => sink.write(0, image));
  const sizeBytes = image.byteLength;
  if (json === true) writeJson(io, { kind: "composefs-image", version: 1, image: to, sizeBytes, digest: hex });
  else io.stdout.write(`${to}: ${formatBytes(sizeBytes)}, fs-verity digest ${hex}\n`);
}

async function dump(io: CommandIo, path: string, options: InputFlags): Promise<void> {
  const entries = await withImage(io, path, { ...options, offset: 0 }, (image) =>
    readComposefs(image, { signal: io.signal }),
  );
  // Every byte that could drive a terminal is escaped in a dump.
  io.stdout.write(formatComposefsDump(entries));
}

async function digest(io: CommandIo, path: string, { json, ...options }: JsonFlag): Promise<void> {
  await using source = await openInput(io, path, options);
  const hex = toHex(await fsVerityDigest(source, { signal: io.signal }));
  if (json === true) writeJson(io, { kind: "fs-verity-digest", version: 1, path, digest: hex });
  else io.stdout.write(`${hex}\n`);
}
