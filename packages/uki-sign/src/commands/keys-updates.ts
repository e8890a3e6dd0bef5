import { resolve } from "node:path";
import { type CommandIo, table, UsageError, writeJson } from "@leveret/command";
import type { Command } from "commander";
import type { SignatureDatabase } from "../efi/signature-list.ts";
import type { SignedUpdate } from "../efi/signed-update.ts";
import { type NewFile, writeNewDirectory } from "../internal/new-directory.ts";
import { exportKeys } from "../keys/export.ts";
import { rotateKeys } from "../keys/rotate.ts";
import { collect, printable } from "./arguments.ts";
import { CommandFiles } from "./command-files.ts";
import { addInUseOptions, type InUseFlags, readInUse } from "./in-use.ts";
import { OpenKeys, PASSPHRASE_FILE } from "./open-keys.ts";
import { parseTime, wholeSecond } from "./signing.ts";
import { readDatabase } from "./vars-input.ts";

interface ExportFlags {
  readonly output: string;
  readonly kek?: readonly string[];
  readonly db?: readonly string[];
  readonly dbx?: readonly string[];
  readonly timestamp?: string;
  readonly passphraseFile?: string;
  readonly json?: boolean;
}

interface RotateFlags extends InUseFlags {
  readonly output: string;
  readonly timestamp?: string;
  readonly revoke?: boolean;
  readonly passphraseFile?: string;
  readonly json?: boolean;
}

/** `uki-sign keys export` */
export function addExport(keys: Command, io: CommandIo): void {
  keys
    .command("export")
    .description(
      "write the Secure Boot variables of a key hierarchy to a new directory: NAME.auth for systemd-boot, NAME.esl and NAME.cer for firmware set-up",
    )
    .argument("<directory>", "what keys generate made")
    .option("--kek <file>", "further certificate or signature list for KEK; several allowed", collect)
    .option("--db <file>", "further certificate or signature list for db; several allowed", collect)
    .option("--dbx <file>", "certificate or signature list for dbx; several allowed", collect)
    .option("--timestamp <time>", "time of the values, ISO 8601; start of PK's validity by default")
    .option("--passphrase-file <file>", PASSPHRASE_FILE)
    .requiredOption("-o, --output <directory>", "directory that does not exist, or is empty")
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  uki-sign keys export keys -o esp/loader/keys/auto")
    .action(async (directory: string, flags: ExportFlags) => {
      await using files = new CommandFiles(io);
      const { passphrase } = new OpenKeys(io, files, flags.passphraseFile);
      const set = await files.keys(directory, { roles: ["PK", "KEK"], passphrase });
      const lists = async (paths: readonly string[] = []): Promise<SignatureDatabase> =>
        (await Promise.all(paths.map((path) => readDatabase(files, path)))).flat();
      const updates = await exportKeys(set, {
        kek: await lists(flags.kek),
        db: await lists(flags.db),
        dbx: await lists(flags.dbx),
        timestamp: flags.timestamp === undefined ? undefined : parseTime(flags.timestamp),
      });
      const made = updates.flatMap(({ name, auth, value }): NewFile[] => [
        { name: `${name}.auth`, content: auth, mode: 0o644 },
        { name: `${name}.esl`, content: value, mode: 0o644 },
        ...(name === "dbx" ? [] : [{ name: `${name}.cer`, content: set.certificates[name].der, mode: 0o644 }]),
      ]);
      await writeNewDirectory(resolve(io.cwd, flags.output), io.signal, async () => made);
      if (flags.json) {
        writeJson(io, { kind: "uki-keys-export", version: 1, path: flags.output, updates: updates.map(describe) });
        return;
      }
      io.stdout.write(`${flags.output}\n${table(updates.map((update) => row(`${update.name}.auth`, update)))}\n`);
    });
}

/** `uki-sign keys rotate` */
export function addRotate(keys: Command, io: CommandIo): void {
  const command = keys
    .command("rotate")
    .description(
      "sign the updates that take machines from one key hierarchy to another: first those after which both are trusted, then those that leave only the next one",
    )
    .argument("<previous>", "hierarchy that machines have; PK and KEK sign")
    .argument("<next>", "hierarchy they are to get, made by keys generate; KEK signs")
    .option(
      "--timestamp <time>",
      "time of the updates, ISO 8601, later than the values on the machines; now by default",
    )
    .option(
      "--revoke",
      "forbid the previous db key in the end; with --in-use, unless that would keep them from booting",
    );
  addInUseOptions(command)
    .option("--passphrase-file <file>", PASSPHRASE_FILE)
    .requiredOption("-o, --output <directory>", "directory that does not exist, or is empty")
    .option("--json", "print one JSON document")
    .addHelpText(
      "after",
      `
Example:
  uki-sign keys generate keys-2027
  uki-sign keys rotate keys keys-2027 -o updates
  (make the introduce-* updates, sign everything with keys-2027, boot it, then make the retire-* updates)`,
    )
    .action(async (previous: string, next: string, flags: RotateFlags) => {
      await using files = new CommandFiles(io);
      const inUse = await readInUse(files, flags);
      if (inUse !== undefined && flags.revoke !== true) {
        throw new UsageError("expected --revoke with --in-use and --in-use-log, got none: nothing else forbids");
      }
      const { passphrase } = new OpenKeys(io, files, flags.passphraseFile);
      const { introduce, retire } = await rotateKeys(
        await files.keys(previous, { roles: ["PK", "KEK"], passphrase }),
        await files.keys(next, { roles: ["KEK"], passphrase }),
        {
          timestamp: flags.timestamp === undefined ? wholeSecond(new Date()) : parseTime(flags.timestamp),
          revoke: flags.revoke ? (inUse ?? {}) : undefined,
        },
      );
      const named = [...nameUpdates("introduce", introduce), ...nameUpdates("retire", retire)];
      const made = named.map(([name, { auth }]): NewFile => ({ name, content: auth, mode: 0o644 }));
      await writeNewDirectory(resolve(io.cwd, flags.output), io.signal, async () => made);
      if (flags.json) {
        const updates = named.map(([file, update]) => ({ file, ...describe(update) }));
        writeJson(io, { kind: "uki-keys-rotate", version: 1, path: flags.output, updates });
        return;
      }
      io.stdout.write(`${flags.output}\n${table(named.map(([name, update]) => row(name, update)))}\n`);
    });
}

/** File names that sort in the order in which updates are made. */
function nameUpdates(step: string, updates: readonly SignedUpdate[]): [string, SignedUpdate][] {
  return updates.map((update, index) => {
    const append = update.append ? ".append" : "";
    return [`${step}-${index + 1}-${update.name}${append}.auth`, update];
  });
}

function row(file: string, { name, append, signedBy }: SignedUpdate): string[] {
  return [
    `  ${file}`,
    `${append ? "adds to" : "sets"} ${name}`,
    `signed by ${printable(signedBy.subject)} (${signedBy.fingerprint.slice(0, 16)}…)`,
  ];
}

function describe({ name, append, signedBy, auth }: SignedUpdate): object {
  return {
    name,
    append,
    signedBy: signedBy.subject,
    signedByFingerprint: signedBy.fingerprint,
    sizeBytes: auth.length,
  };
}
