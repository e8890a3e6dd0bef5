import { type CommandIo, countText, table, UsageError, writeJson } from "@leveret/command";
import type { Command } from "commander";
import { toHex } from "../internal/bytes.ts";
import type { PemSigner } from "../keys/signer.ts";
import {
  PCR_POLICY_BANKS,
  type PredictPcrPoliciesOptions,
  predictPcrPolicies,
  signPcrPolicies,
} from "../pcr/policy.ts";
import { renderPcrSignatures } from "../pcr/policy-signature.ts";
import { BOOT_PHASES, predictPcr11Table } from "../pcr/predict-pcr11.ts";
import { PCR_BANKS, type PcrBank } from "../pcr/register.ts";
import type { HashName } from "../rsa/scheme.ts";
import { measuredSections } from "../uki/inspect.ts";
import { collect, parseBank, parseInteger } from "./arguments.ts";
import { CommandFiles } from "./command-files.ts";
import { KEY_VALUE, OpenKeys, PASSPHRASE_FILE } from "./open-keys.ts";

interface MeasureFlags {
  readonly bank?: readonly string[];
  readonly phases?: string;
  readonly profile?: number;
  readonly dtbauto?: number;
  readonly efifw?: number;
  readonly policy?: boolean;
  readonly keys?: string;
  readonly key?: string;
  readonly passphraseFile?: string;
  readonly output?: string;
  readonly json?: boolean;
}

/** `uki-sign measure` */
export function addMeasureCommand(program: Command, io: CommandIo): void {
  program
    .command("measure")
    .description("predict PCR 11 of a machine that boots a unified kernel image, at the end of each phase")
    .argument("<image>", "unified kernel image")
    .option("--bank <name>", `${PCR_BANKS.join(", ")}; several allowed, all by default`, collect)
    .option("--phases <path>", "phases of the boot, joined by colons", BOOT_PHASES.join(":"))
    .option("--profile <index>", "profile that boots, counted from 0; the first by default", parseInteger)
    .option("--dtbauto <index>", "device tree the machine picks; none by default", parseInteger)
    .option("--efifw <index>", "firmware the machine picks; none by default", parseInteger)
    .option("--policy", "show the TPM policies for these values, and the digests that a signer signs")
    .option("--keys <directory>", "sign the policies with pcr of this key hierarchy, see uki-sign keys")
    .option("--key <key>", `${KEY_VALUE}, to sign the policies with; in place of --keys`)
    .option("--passphrase-file <file>", PASSPHRASE_FILE)
    .option("-o, --output <file>", "file for the signed policies, what --pcrsig of build takes")
    .option("--json", "print one JSON document")
    .addHelpText(
      "after",
      `
Examples:
  uki-sign measure linux.efi
  uki-sign measure --bank sha256 --phases enter-initrd linux.efi
  uki-sign measure --profile 1 linux.efi
  uki-sign measure --policy --json linux.efi
  uki-sign measure --keys keys -o linux.pcrsig linux.efi`,
    )
    .action(async (path: string, flags: MeasureFlags) => {
      const banks = flags.bank?.map(parseBank);
      const { profile, dtbauto, efifw } = flags;
      await using files = new CommandFiles(io);
      const image = await files.open(path);
      const sections = measuredSections(image, { profile, dtbauto, efifw });
      const phases = flags.phases?.split(":");
      if (flags.policy || flags.keys !== undefined || flags.key !== undefined || flags.output !== undefined) {
        await measurePolicies(
          io,
          files,
          { sections, banks: banks?.map(parsePolicyBank), phasePaths: prefixesOf(phases) },
          flags,
        );
        return;
      }
      const predictions = predictPcr11Table({ sections, banks, phases });
      if (flags.json) {
        const measured = sections.map(({ name }) => name);
        writeJson(io, { kind: "uki-measure", version: 1, pcr: 11, sections: measured, predictions });
        return;
      }
      const rows = predictions.map(({ phasePath, bank, value }) => [phasePath, bank, toHex(value)]);
      io.stdout.write(`${table([["phases", "bank", "PCR 11"], ...rows])}\n`);
    });
}

/** The paths that a boot through these phases goes through. */
function prefixesOf(phases: readonly string[] | undefined): string[] | undefined {
  return phases?.map((_, index) => phases.slice(0, index + 1).join(":"));
}

/** A bank of policies, which have none with SHA-1. */
export function parsePolicyBank(bank: PcrBank): HashName {
  if (bank !== "sha1") return bank;
  throw new UsageError(`expected a bank of ${PCR_POLICY_BANKS.join(", ")} for policies, got sha1`);
}

async function measurePolicies(
  io: CommandIo,
  files: CommandFiles,
  options: PredictPcrPoliciesOptions,
  flags: MeasureFlags,
): Promise<void> {
  const policies = predictPcrPolicies(options);
  await using open = new OpenKeys(io, files, flags.passphraseFile);
  const signer = await loadPcrSigner(files, flags, open);
  if ((signer === undefined) !== (flags.output === undefined)) {
    throw new UsageError("expected --output together with --keys or --key, got one of them");
  }
  if (signer !== undefined && flags.output !== undefined) {
    const text = renderPcrSignatures(await signPcrPolicies(policies, signer, signer.publicKey));
    await files.write(flags.output, new TextEncoder().encode(text));
  }
  if (flags.json) {
    writeJson(io, { kind: "uki-pcr-policies", version: 1, pcr: 11, policies, path: flags.output });
    return;
  }
  if (flags.output !== undefined) {
    io.stdout.write(`${flags.output}: ${countText(policies.length, "policy", "policies")}, signed\n`);
    return;
  }
  const rows = policies.map(({ phasePath, bank, policy }) => [phasePath, bank, toHex(policy)]);
  io.stdout.write(`${table([["phases", "bank", "policy"], ...rows])}\n`);
}

async function loadPcrSigner(files: CommandFiles, flags: MeasureFlags, open: OpenKeys): Promise<PemSigner | undefined> {
  const { keys, key, passphraseFile } = flags;
  if (keys !== undefined && key !== undefined) throw new UsageError("expected --keys or --key, got both");
  if (keys === undefined && key === undefined && passphraseFile !== undefined) {
    throw new UsageError("expected --keys or --key with --passphrase-file, got neither");
  }
  if (key !== undefined) return await open.signer(key);
  if (keys === undefined) return undefined;
  return (await files.keys(keys, { roles: ["pcr"], passphrase: open.passphrase })).signers.pcr;
}
