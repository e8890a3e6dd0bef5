import { resolve } from "node:path";
import { type CommandIo, style, table, writeJson } from "@leveret/command";
import type { Command } from "commander";
import { type GenerateKeysOptions, generateKeys } from "../keys/generate.ts";
import { KEY_ROLES, type KeyRole, type KeySet } from "../keys/roles.ts";
import { parseInteger, printable } from "./arguments.ts";
import { CommandFiles } from "./command-files.ts";
import { addExport, addRotate } from "./keys-updates.ts";
import { newPassphrase, OpenKeys, PASSPHRASE_FILE } from "./open-keys.ts";
import { parseTime } from "./signing.ts";

interface GenerateFlags {
  readonly name?: string;
  readonly organization?: string;
  readonly owner?: string;
  readonly bits?: number;
  readonly notBefore?: string;
  readonly notAfter?: string;
  readonly passphraseFile?: string;
  readonly askPassphrase?: boolean;
  readonly json?: boolean;
}

interface ShowFlags {
  readonly passphraseFile?: string;
  readonly certificates?: boolean;
  readonly json?: boolean;
}

const PURPOSES: Readonly<Record<KeyRole, string>> = {
  PK: "changes KEK",
  KEK: "changes db and dbx",
  db: "signs what firmware boots",
  verity: "signs root hashes",
  pcr: "signs TPM policies",
};

/** `uki-sign keys` */
export function addKeysCommand(program: Command, io: CommandIo): void {
  const keys = program.command("keys").description("make, check, export and rotate the keys of a signed system");
  addGenerate(keys, io);
  addShow(keys, io);
  addExport(keys, io);
  addRotate(keys, io);
}

function addGenerate(keys: Command, io: CommandIo): void {
  keys
    .command("generate")
    .description(
      `generate ${KEY_ROLES.join(", ")} with self-signed certificates into a new directory; never overwrites`,
    )
    .argument("<directory>", "directory that does not exist, or is empty")
    .option("--name <text>", "what certificates are named by", "leveret")
    .option("--organization <text>", "organization in the certificates' names")
    .option("--owner <guid>", "owner of the Secure Boot entries; random by default")
    .option("--bits <number>", "RSA modulus length, 2048 by default", parseInteger)
    .option("--not-before <time>", "start of the certificates' validity, ISO 8601; now by default")
    .option("--not-after <time>", "end of the certificates' validity, ISO 8601; 20 years later by default")
    .option("--ask-passphrase", "encrypt the keys with a passphrase that the terminal is asked for")
    .option("--passphrase-file <file>", "encrypt the keys with the passphrase in it, /dev/fd/N for an open descriptor")
    .option("--json", "print one JSON document")
    .addHelpText(
      "after",
      "\nExamples:\n  uki-sign keys generate keys\n  uki-sign keys generate keys --passphrase-file /dev/fd/3 3< passphrase",
    )
    .action(async (directory: string, flags: GenerateFlags) => {
      const { name, organization, owner, bits, notBefore, notAfter, json } = flags;
      await using files = new CommandFiles(io);
      const options: GenerateKeysOptions = {
        name,
        organization,
        owner,
        keyBits: bits,
        notBefore: notBefore === undefined ? undefined : parseTime(notBefore),
        notAfter: notAfter === undefined ? undefined : parseTime(notAfter),
        passphrase: await newPassphrase(io, files, flags),
        signal: io.signal,
      };
      print(io, await generateKeys(resolve(io.cwd, directory), options), json);
    });
}

function addShow(keys: Command, io: CommandIo): void {
  keys
    .command("show")
    .description("check a key hierarchy and show its certificates")
    .argument("<directory>", "what keys generate made")
    .option("--certificates", "look at certificates only, for keys that are kept elsewhere")
    .option("--passphrase-file <file>", PASSPHRASE_FILE)
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  uki-sign keys show keys")
    .action(async (directory: string, { certificates, passphraseFile, json }: ShowFlags) => {
      await using files = new CommandFiles(io);
      const { passphrase } = new OpenKeys(io, files, passphraseFile);
      const roles = certificates ? [] : KEY_ROLES;
      print(io, await files.keys(directory, { roles, passphrase }), json);
    });
}

function print(io: CommandIo, keys: KeySet, json: boolean | undefined): void {
  const { directory, owner, exposedPaths } = keys;
  if (json) {
    const list = KEY_ROLES.map((role) => {
      const { subject, fingerprint, keyBits, serialNumber, notBefore, notAfter } = keys.certificates[role];
      const hasPrivateKey = Object.hasOwn(keys.signers, role);
      const validity = { notBefore: notBefore.toISOString(), notAfter: notAfter.toISOString() };
      return {
        role,
        subject,
        fingerprint,
        keyBits,
        serialNumber: serialNumber.toString(16),
        ...validity,
        hasPrivateKey,
      };
    });
    writeJson(io, { kind: "uki-keys", version: 1, directory, owner, keys: list, exposedPaths });
    return;
  }
  const rows = KEY_ROLES.map((role) => {
    const { subject, fingerprint, keyBits, notAfter } = keys.certificates[role];
    const until = `until ${notAfter.toISOString().slice(0, 10)}`;
    return [role, PURPOSES[role], `RSA ${keyBits ?? "?"}`, printable(subject), until, fingerprint.slice(0, 16)];
  });
  io.stdout.write(`${directory}, owner ${owner}\n${table(rows)}\n`);
  for (const path of exposedPaths) {
    io.stderr.write(`${style(io.stderr, io.env, "yellow", "warning")}: others may read ${path}; chmod 600 it\n`);
  }
}
