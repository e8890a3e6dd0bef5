import { resolve } from "node:path";
import { type CommandIo, withProgress, writeJson } from "@leveret/command";
import type { Command } from "commander";
import { repairVerityTree, type VerityRepair } from "../fec/repair.ts";
import { FEC_ROOTS } from "../format/fec.ts";
import { openInPlace } from "../internal/files.ts";
import { openInput } from "./input.ts";
import { parseCount, parseHex } from "./open.ts";
import { allMatchText, damaged, rangeText } from "./verity-text.ts";

interface RepairOptions {
  readonly fecRoots: number;
  readonly workers?: number;
  readonly json?: boolean;
}

/** Adds `verity repair`. */
export function addVerityRepairCommand(verity: Command, io: CommandIo): void {
  verity
    .command("repair")
    .description("repair a file and its hash tree in place with parity; only what the root hash vouches for is written")
    .argument("<data>")
    .argument("<tree>")
    .argument("<parity>", "what `verity build --fec` or `veritysetup format --fec-device` wrote")
    .argument("<root-hash>", "trusted root hash", parseHex)
    .option("--fec-roots <count>", "as when the parity was built", parseCount, FEC_ROOTS.default)
    .option("--workers <count>", "threads besides the program's own", parseCount)
    .option("--json", "print one JSON document")
    .action((data: string, tree: string, parity: string, root: Uint8Array, options: RepairOptions) =>
      repair(io, { data, tree, parity }, root, options),
    );
}

async function repair(
  io: CommandIo,
  paths: { readonly data: string; readonly tree: string; readonly parity: string },
  rootHash: Uint8Array,
  { fecRoots, workers, json }: RepairOptions,
): Promise<void> {
  await using data = await openInPlace(resolve(io.cwd, paths.data));
  await using tree = await openInPlace(resolve(io.cwd, paths.tree));
  await using parity = await openInput(io, paths.parity);
  const repaired = await withProgress(
    io,
    (update) =>
      repairVerityTree(data.source, tree.source, parity, {
        rootHash,
        roots: fecRoots,
        dataOutput: data,
        treeOutput: tree,
        workers,
        signal: io.signal,
        onProgress: (event) => update({ step: "verifying", ...event }),
      }),
    { terminalOnly: true },
  );
  await data.sync();
  await tree.sync();
  if (json !== true) io.stdout.write(repairText(repaired));
  if (!repaired.report.ok) throw await damaged(repaired.report, paths.data, data.source);
  if (json === true) writeJson(io, { kind: "verity-repair", version: 1, ...repaired });
}

function repairText({ repairedHashBlocks, repairedDataBlocks, report }: VerityRepair): string {
  const { dataBlockSize } = report.superblock;
  const lines = [
    ...repairedHashBlocks.map(({ level, index }) => `repaired hash block ${index} of level ${level}`),
    ...repairedDataBlocks.map((range) => `repaired ${rangeText(range, dataBlockSize)}`),
    ...(report.ok ? [allMatchText(report)] : []),
  ];
  return lines.map((line) => `${line}\n`).join("");
}
