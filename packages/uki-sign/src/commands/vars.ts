import { type CommandIo, countText, formatBytes, table, UsageError, writeJson } from "@leveret/command";
import type { Command } from "commander";
import { decodeAuthenticatedVariable, secureBootVariableGuid, signVariable } from "../efi/authenticated-variable.ts";
import { assertDbxSpares } from "../efi/dbx-guard.ts";
import { enrollVariableStore } from "../efi/enroll.ts";
import { encodeSignatureDatabase } from "../efi/signature-list.ts";
import { DEFAULT_MAX_VARIABLE_STORE_BYTES, decodeVariableStore } from "../efi/variable-store.ts";
import { collect } from "./arguments.ts";
import { CommandFiles } from "./command-files.ts";
import { addInUseOptions, readInUse } from "./in-use.ts";
import { KEY_VALUE, OpenKeys, PASSPHRASE_FILE } from "./open-keys.ts";
import { parseTime, wholeSecond } from "./signing.ts";
import { chooseSigner, type EnrollFlags, readDatabase, readEnrolment, type SignFlags } from "./vars-input.ts";
import { describeDatabase, describeVariable, detectVariables, printVariables } from "./vars-output.ts";

/** `uki-sign vars` */
export function addVarsCommand(program: Command, io: CommandIo): void {
  const vars = program.command("vars").description("make and show the variables that decide what firmware trusts");
  addEnroll(vars, io);
  addShow(vars, io);
  addSign(vars, io);
}

function addEnroll(vars: Command, io: CommandIo): void {
  vars
    .command("enroll")
    .description("put keys into an empty OVMF variable store: the first boot with it already enforces Secure Boot")
    .argument("<template>", "variable store without keys: OVMF_VARS_4M.fd")
    .option("--keys <directory>", "key hierarchy made by keys generate; its private keys are not read")
    .option("--pk <file>", "certificate of the platform key, instead of --keys")
    .option("--kek <file>", "certificate or signature list for KEK; several allowed", collect)
    .option("--db <file>", "certificate or signature list for db; several allowed", collect)
    .option("--dbx <file>", "certificate or signature list for dbx; several allowed", collect)
    .option("--owner <guid>", "owner of the entries; that of --keys by default")
    .option("--timestamp <time>", "time of the values, ISO 8601; start of PK's validity by default")
    .requiredOption("-o, --output <file>", "variable store to write")
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  uki-sign vars enroll /usr/share/OVMF/OVMF_VARS_4M.fd --keys keys -o vars.fd")
    .action(async (template: string, flags: EnrollFlags) => {
      await using files = new CommandFiles(io);
      const options = await readEnrolment(files, flags);
      const store = enrollVariableStore(await files.read(template, DEFAULT_MAX_VARIABLE_STORE_BYTES), options);
      await files.write(flags.output, store, template);
      const { variables, freeBytes } = decodeVariableStore(store);
      const described = variables
        .filter(({ name }) => secureBootVariableGuid(name) !== undefined)
        .map(describeVariable);
      if (flags.json) {
        const path = flags.output;
        writeJson(io, {
          kind: "uki-vars-enroll",
          version: 1,
          path,
          sizeBytes: store.length,
          freeBytes,
          variables: described,
        });
        return;
      }
      printVariables(io, described);
      io.stdout.write(
        `${flags.output}: ${formatBytes(store.length)}, Secure Boot on, ${formatBytes(freeBytes)} free\n`,
      );
    });
}

function addShow(vars: Command, io: CommandIo): void {
  vars
    .command("show")
    .description("show a variable store (.fd), an authenticated variable (.auth) or a signature list (.esl)")
    .argument("<file>", "file of one of these kinds")
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExamples:\n  uki-sign vars show vars.fd\n  uki-sign vars show db.auth")
    .action(async (path: string, { json }: { readonly json?: boolean }) => {
      await using files = new CommandFiles(io);
      const shown = detectVariables(await files.read(path, DEFAULT_MAX_VARIABLE_STORE_BYTES));
      if (json) {
        writeJson(io, { version: 1, ...shown });
        return;
      }
      if (shown.kind === "uki-variable-store") printVariables(io, shown.variables);
      else {
        if (shown.kind === "uki-authenticated-variable") {
          io.stdout.write(`signed at ${shown.timestamp}, ${shown.signers.join("; ")}\n`);
        }
        io.stdout.write(`${table(shown.entries.map(({ type, owner, name }) => [type, name, owner]))}\n`);
      }
    });
}

function addSign(vars: Command, io: CommandIo): void {
  const command = vars
    .command("sign")
    .description("sign a new value of PK, KEK, db or dbx: what SetVariable takes, and systemd-boot enrols")
    .argument("<name>", "variable")
    .option("--keys <directory>", "key hierarchy: PK signs PK and KEK, KEK signs db and dbx")
    .option("--key <key>", `${KEY_VALUE}; instead of --keys`)
    .option("--certificate <file>", "certificate of --key: a PEM or DER file, or a pkcs11: URI")
    .option("--passphrase-file <file>", PASSPHRASE_FILE)
    .option("--add <file>", "certificate or signature list of the new value; several allowed", collect)
    .option("--append", "add to what is there instead of replacing it")
    .option("--delete", "delete the variable")
    .option("--owner <guid>", "owner of the entries; that of --keys by default")
    .option("--guid <guid>", "vendor of a variable with another name")
    .option("--timestamp <time>", "time of the value, ISO 8601, later than that of the old one; now by default")
    .requiredOption("-o, --output <file>", "file to write: db.auth");
  addInUseOptions(command)
    .option("--json", "print one JSON document")
    .addHelpText(
      "after",
      `
Examples:
  uki-sign vars sign db --keys keys -o db.auth
  uki-sign vars sign db --keys keys --append --add next-db.crt -o db-update.auth
  uki-sign vars sign dbx --keys keys --append --add old-db.crt --in-use linux.efi -o dbx-update.auth`,
    )
    .action(async (name: string, flags: SignFlags) => {
      await using files = new CommandFiles(io);
      await using open = new OpenKeys(io, files, flags.passphraseFile);
      const { signer, certificate, owner, own } = await chooseSigner(files, name, flags, open);
      const added = (await Promise.all((flags.add ?? []).map((path) => readDatabase(files, path)))).flat();
      const value = added.length > 0 || flags.delete ? added : own;
      if (value.length === 0 && !flags.delete) throw new UsageError("expected --add with the new value, or --delete");
      if (added.length > 0 && flags.delete) throw new UsageError("expected --add or --delete, got both");
      const data = encodeSignatureDatabase(value, owner);
      const inUse = await readInUse(files, flags);
      if (inUse !== undefined && name !== "dbx") throw new UsageError(`expected dbx with --in-use, got ${name}`);
      if (inUse !== undefined) assertDbxSpares(data, inUse);
      const timestamp = flags.timestamp === undefined ? wholeSecond(new Date()) : parseTime(flags.timestamp);
      const { append, guid } = flags;
      const signed = await signVariable({ name, guid, append, data, timestamp, signer, certificate });
      await files.write(flags.output, signed);
      const entries = describeDatabase(decodeAuthenticatedVariable(signed).data);
      const summary = {
        path: flags.output,
        name,
        timestamp: timestamp.toISOString(),
        signer: certificate.subject,
        entries,
      };
      if (flags.json) writeJson(io, { kind: "uki-vars-sign", version: 1, append: append === true, ...summary });
      else {
        const count = countText(entries.length, "entry", "entries");
        io.stdout.write(`${flags.output}: ${name}, ${count}, ${summary.timestamp}, signed by ${summary.signer}\n`);
      }
    });
}
