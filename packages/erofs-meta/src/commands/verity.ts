import { createHash } from "node:crypto";
import { resolve } from "node:path";
import {
  type CommandIo,
  countText,
  formatBytes,
  type InputFlags,
  table,
  UsageError,
  withInputOptions,
  withProgress,
  writeJson,
} from "@leveret/command";
import { type Command, Option } from "commander";
import type { BlockSource } from "../block-source.ts";
import { buildVerityFec, type VerityFec } from "../fec/build.ts";
import { FEC_ROOTS } from "../format/fec.ts";
import { VERITY_DIGEST_SIZES } from "../format/verity.ts";
import { derivedUuid, toHex } from "../internal/bytes.ts";
import { atomic } from "../internal/files.ts";
import { DEFAULT_VERITY_BLOCK_SIZE, type VerityAlgorithm } from "../options.ts";
import { buildVerityTree } from "../verity/build.ts";
import { verifyVerityTree } from "../verity/verify.ts";
import { openInput } from "./input.ts";
import { parseCount, parseHex } from "./open.ts";
import { addVerityRepairCommand } from "./verity-repair.ts";
import { allMatchText, damaged } from "./verity-text.ts";

interface BuildOptions extends InputFlags {
  readonly salt?: Uint8Array;
  readonly uuid?: string;
  readonly dataBlockSize: number;
  readonly hashBlockSize: number;
  readonly algorithm: VerityAlgorithm;
  readonly fec?: string;
  readonly fecRoots: number;
  readonly workers?: number;
  readonly json?: boolean;
}

interface VerifyOptions extends InputFlags {
  readonly workers?: number;
  readonly json?: boolean;
}

/** What salts and UUIDs follow from, in `bytes`: images have a UUID of their own at the start, which tells them apart. */
const IDENTITY_BYTES = 1024 * 1024;

/** Adds `verity build`, `verity verify` and `verity repair`. */
export function addVerityCommands(program: Command, io: CommandIo): void {
  const verity = program.command("verity").description("build, verify and repair dm-verity hash trees");
  withInputOptions(verity.command("build"))
    .description("write the hash tree of a file, as `veritysetup format` does, and print its root hash")
    .argument("<data>")
    .argument("<tree>", "file to write")
    .option("--salt <hex>", "salt; follows from size and start of the data unless given", parseHex)
    .option("--uuid <uuid>", "UUID; follows from size and start of the data unless given")
    .option("--data-block-size <bytes>", "block size of the data", parseCount, DEFAULT_VERITY_BLOCK_SIZE)
    .option("--hash-block-size <bytes>", "block size of the tree", parseCount, DEFAULT_VERITY_BLOCK_SIZE)
    .addOption(
      new Option("--algorithm <name>", "hash function").choices(Object.keys(VERITY_DIGEST_SIZES)).default("sha256"),
    )
    .option("--fec <file>", "file to write parity to, with which damage can be repaired; for equal block sizes")
    .option("--fec-roots <count>", "bytes of parity for every 255 bytes, 2..24", parseCount, FEC_ROOTS.default)
    .option("--workers <count>", "threads besides the program's own", parseCount)
    .option("--json", "print one JSON document")
    .action((data: string, tree: string, options: BuildOptions) => build(io, data, tree, options));
  withInputOptions(verity.command("verify"))
    .description("check a file against its hash tree and say which blocks are damaged")
    .argument("<data>")
    .argument("<tree>")
    .argument("<root-hash>", "trusted root hash", parseHex)
    .option("--workers <count>", "threads besides the program's own", parseCount)
    .option("--json", "print one JSON document")
    .action((data: string, tree: string, root: Uint8Array, options: VerifyOptions) =>
      verify(io, data, tree, root, options),
    );
  addVerityRepairCommand(verity, io);
}

async function build(io: CommandIo, data: string, tree: string, options: BuildOptions): Promise<void> {
  const { json, workers, fec, fecRoots, headerFile: _, ...settings } = options;
  const output = resolve(io.cwd, tree);
  await atomic.assertNoInput(output, [resolve(io.cwd, data)]);
  if (fec !== undefined) await assertParityApart(io, fec, data, tree);
  await using source = await openInput(io, data, options);
  const identity = await identityOf(source);
  const { salt = identity.salt, uuid = identity.uuid } = options;
  const built = await withProgress(
    io,
    (update) =>
      buildVerityTree(source, {
        ...settings,
        salt,
        uuid,
        output,
        workers,
        signal: io.signal,
        onProgress: (event) => update({ step: "hashing", ...event }),
      }),
    { terminalOnly: true },
  );
  const parity = fec === undefined ? undefined : await buildParity(io, source, tree, fec, fecRoots);
  if (json === true) {
    writeJson(io, { kind: "verity-tree", version: 1, ...built, ...(parity !== undefined && { fec: parity }) });
    return;
  }
  const { superblock } = built;
  const rows = [
    ["root hash", toHex(built.rootHash)],
    ["salt", toHex(superblock.salt)],
    ["uuid", superblock.uuid],
    ["algorithm", superblock.algorithm],
    [
      "data",
      `${countText(superblock.dataBlocks, "block")} of ${superblock.dataBlockSize} bytes (${formatBytes(built.dataSizeBytes)})`,
    ],
    ["tree", `${formatBytes(built.treeSizeBytes)} in ${tree}`],
  ];
  if (parity !== undefined) {
    rows.push(["parity", `${formatBytes(parity.sizeBytes)} in ${fec}, ${parity.roots} bytes for every 255`]);
  }
  io.stdout.write(`${table(rows)}\n`);
}

/** Parity goes into a file of its own, also where the tree is yet to be made. */
async function assertParityApart(io: CommandIo, fec: string, data: string, tree: string): Promise<void> {
  const [parity, ...inputs] = [fec, data, tree].map((path) => resolve(io.cwd, path)) as [string, string, string];
  if (parity === inputs[1]) throw new UsageError(`expected a file of its own for the parity, got ${fec} as tree too`);
  await atomic.assertNoInput(parity, inputs);
}

/** Never random, so that the same data has the same tree and root hash. */
async function identityOf(data: BlockSource): Promise<{ salt: Uint8Array; uuid: string }> {
  const start = await data.read(0, Math.min(IDENTITY_BYTES, data.sizeBytes));
  const digest = (what: string): Buffer =>
    createHash("sha256").update(`dm-verity ${what}, ${data.sizeBytes} bytes\0`).update(start).digest();
  return { salt: digest("salt"), uuid: derivedUuid(digest("uuid")) };
}

async function buildParity(
  io: CommandIo,
  data: BlockSource,
  tree: string,
  output: string,
  roots: number,
): Promise<VerityFec> {
  await using source = await openInput(io, tree);
  return await withProgress(
    io,
    (update) =>
      buildVerityFec(data, source, {
        output: resolve(io.cwd, output),
        roots,
        signal: io.signal,
        onProgress: (event) => update({ step: "computing parity", ...event }),
      }),
    { terminalOnly: true },
  );
}

async function verify(
  io: CommandIo,
  data: string,
  tree: string,
  rootHash: Uint8Array,
  options: VerifyOptions,
): Promise<void> {
  await using dataSource = await openInput(io, data, options);
  await using treeSource = await openInput(io, tree, options);
  const report = await withProgress(
    io,
    (update) =>
      verifyVerityTree(dataSource, treeSource, {
        rootHash,
        workers: options.workers,
        signal: io.signal,
        onProgress: (event) => update({ step: "verifying", ...event }),
      }),
    { terminalOnly: true },
  );
  if (!report.ok) throw await damaged(report, data, dataSource);
  if (options.json === true) writeJson(io, { kind: "verity-report", version: 1, ...report });
  else io.stdout.write(`${allMatchText(report)}\n`);
}
