import { createHash } from "node:crypto";
import { type CommandIo, formatBytes, UsageError, writeJson } from "@leveret/command";
import type { Command } from "commander";
import { writePe } from "../authenticode/write.ts";
import { type Bytes, eachChunk } from "../bytes/byte-source.ts";
import { buildUkiAddon, buildUkiProfile } from "../uki/addon.ts";
import { assembleUki } from "../uki/build.ts";
import { inspectUki } from "../uki/inspect.ts";
import { assembleUkiWithPolicies, type UkiPolicySigner } from "../uki/policies.ts";
import { collect, parseBank } from "./arguments.ts";
import { addPartOptions, type PartFlags, readAddonParts, readImageParts, readProfileParts } from "./build-parts.ts";
import { CommandFiles } from "./command-files.ts";
import { parsePolicyBank } from "./measure.ts";
import { KEY_VALUE, OpenKeys } from "./open-keys.ts";
import { addSigningOptions, describing, loadSigning, type SigningFlags } from "./signing.ts";

interface BuildFlags extends PartFlags, SigningFlags {
  readonly output: string;
  readonly signPolicies?: boolean;
  readonly pcrKey?: string;
  readonly pcrBank?: readonly string[];
  readonly pcrPhases?: readonly string[];
  readonly json?: boolean;
}

/** `uki-sign build` */
export function addBuildCommand(program: Command, io: CommandIo): void {
  const command = program
    .command("build")
    .description(
      "build a unified kernel image, a profile or an addon, signed when --keys or --key is given; TEXT is text as it is, or @FILE",
    );
  addPartOptions(command)
    .option("--sign-policies", "sign PCR 11 policies of all profiles with pcr of --keys, and embed them")
    .option("--pcr-key <key>", `the same with this ${KEY_VALUE}`)
    .option(
      "--pcr-bank <name>",
      "bank of the policies: sha256, sha384 or sha512; several allowed, all by default",
      collect,
    )
    .option("--pcr-phases <path>", "phases, joined by colons, after which a policy holds; several allowed", collect)
    .requiredOption("-o, --output <file>", "image to write");
  addSigningOptions(command)
    .option("--json", "print one JSON document")
    .addHelpText(
      "after",
      `
Examples:
  uki-sign build --stub linuxx64.efi.stub --linux vmlinuz --initrd initrd.img \\
    --cmdline 'quiet root=dissect' --os-release @/etc/os-release -o linux.efi
  uki-sign build … --keys keys --sign-policies -o linux.efi
  uki-sign build --stub addonx64.efi.stub --profile 'ID=debug' --cmdline debug -o debug.efi
  uki-sign build … --profile 'ID=main' --join-profile debug.efi -o linux.efi
  uki-sign build --stub addonx64.efi.stub --cmdline console=ttyS0 --keys keys -o serial.addon.efi`,
    )
    .action(async (flags: BuildFlags) => {
      await using files = new CommandFiles(io);
      await using keys = new OpenKeys(io, files, flags.passphraseFile);
      const signing = await loadSigning(files, flags, keys);
      const unsigned = await build(files, flags, keys);
      const output = await files.output(flags.output);
      const sign = signing && (await describing(signing, unsigned, flags.output));
      await writePe(output, unsigned, { sign, signal: io.signal });
      const image = await files.open(flags.output);
      const { kind, sizeBytes, sections, profiles, signatures } = inspectUki(image);
      if (flags.json) {
        const hash = createHash("sha256");
        eachChunk(image, 0, image.sizeBytes, (chunk) => hash.update(chunk));
        const sha256 = hash.digest("hex");
        const document = { path: flags.output, built: kind, sizeBytes, sha256, signatures, profiles, sections };
        writeJson(io, { kind: "uki-build", version: 1, ...document });
        return;
      }
      const state = signatures === 0 ? "unsigned" : `signed by ${signing?.certificate.subject}`;
      const what = kind === "image" ? "" : `${kind}, `;
      const ways = profiles.length > 1 ? `, ${profiles.length} profiles` : "";
      io.stdout.write(
        `${flags.output}: ${what}${formatBytes(sizeBytes)}, ${sections.length} sections${ways}, ${state}\n`,
      );
    });
}

async function build(files: CommandFiles, flags: BuildFlags, keys: OpenKeys): Promise<Bytes> {
  const signers = await loadPolicySigners(files, flags, keys);
  if (flags.linux === undefined) {
    if (signers.length > 0) throw new UsageError("expected --linux to sign policies about, got none");
    if (flags.profile === undefined) return buildUkiAddon(await readAddonParts(files, flags));
    return buildUkiProfile(await readProfileParts(files, flags, flags.profile));
  }
  const { pcrsig, ...parts } = await readImageParts(files, flags, flags.linux);
  if (signers.length === 0) return assembleUki({ ...parts, pcrsig });
  if (pcrsig !== undefined) throw new UsageError("expected either --pcrsig or policies to sign, got both");
  return await assembleUkiWithPolicies(parts, signers);
}

async function loadPolicySigners(files: CommandFiles, flags: BuildFlags, open: OpenKeys): Promise<UkiPolicySigner[]> {
  const { keys, pcrKey, signPolicies, pcrPhases: phasePaths } = flags;
  const banks = flags.pcrBank?.map(parseBank).map(parsePolicyBank);
  if (signPolicies !== true && pcrKey === undefined) {
    if ((banks ?? phasePaths) === undefined) return [];
    throw new UsageError("expected --sign-policies or --pcr-key with --pcr-bank or --pcr-phases, got neither");
  }
  if (pcrKey !== undefined) {
    const signer = await open.signer(pcrKey);
    return [{ signer, publicKey: signer.publicKey, banks, phasePaths }];
  }
  if (keys === undefined) throw new UsageError("expected --keys with --sign-policies, got none");
  const { signers } = await files.keys(keys, { roles: ["pcr"], passphrase: open.passphrase });
  return [{ signer: signers.pcr, publicKey: signers.pcr.publicKey, banks, phasePaths }];
}
