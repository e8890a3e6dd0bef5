import { createHash } from "node:crypto";
import { type CommandIo, formatBytes, UsageError, writeJson } from "@leveret/command";
import type { Command } from "commander";
import { signPe } from "../authenticode/sign.ts";
import { readInput, writeOutput } from "../internal/files.ts";
import { type BuildUkiOptions, buildUki } from "../uki/build.ts";
import { inspectUki } from "../uki/inspect.ts";
import { collect, parseInteger, readText } from "./arguments.ts";
import { addSigningOptions, loadSigning, type SigningFlags } from "./signing.ts";

interface BuildFlags extends SigningFlags {
  readonly stub: string;
  readonly linux: string;
  readonly output: string;
  readonly initrd?: readonly string[];
  readonly cmdline?: string;
  readonly osRelease?: string;
  readonly uname?: string;
  readonly sbat?: readonly string[];
  readonly profile?: string;
  readonly pcrpkey?: string;
  readonly pcrsig?: string;
  readonly splash?: string;
  readonly dtb?: string;
  readonly dtbauto?: readonly string[];
  readonly hwids?: string;
  readonly ucode?: string;
  readonly section?: readonly string[];
  readonly timeDateStamp?: number;
  readonly json?: boolean;
}

/** `uki-sign build` */
export function addBuildCommand(program: Command, io: CommandIo): void {
  const command = program
    .command("build")
    .description("Build a unified kernel image, signed when --keys or --key is given. TEXT is text as it is, or @FILE.")
    .requiredOption("--stub <file>", "systemd's stub: linuxx64.efi.stub")
    .requiredOption("--linux <file>", "kernel")
    .option("--initrd <file>", "initrd; several are joined in order", collect)
    .option("--cmdline <text>", "kernel command line")
    .option("--os-release <text>", "content of os-release")
    .option("--uname <text>", "kernel release; read from the kernel by default")
    .option("--sbat <text>", "SBAT entries to merge; several allowed", collect)
    .option("--profile <text>", "description of the base profile")
    .option("--pcrpkey <file>", "public key of PCR signatures, PEM")
    .option("--pcrsig <file>", "PCR signatures, JSON")
    .option("--splash <file>", "boot logo, BMP")
    .option("--dtb <file>", "device tree")
    .option("--dtbauto <file>", "device tree the stub picks by machine; several allowed", collect)
    .option("--hwids <file>", "hardware identifiers that --dtbauto is picked by")
    .option("--ucode <file>", "processor microcode")
    .option("--section <name=file>", "further section; several allowed", collect)
    .option("--time-date-stamp <seconds>", "PE time stamp; the stub's by default", parseInteger)
    .requiredOption("-o, --output <file>", "image to write")
    .option("--json", "print one JSON document");
  addSigningOptions(command)
    .addHelpText(
      "after",
      `
Examples:
  uki-sign build --stub linuxx64.efi.stub --linux vmlinuz --initrd initrd.img \\
    --cmdline 'quiet root=dissect' --os-release @/etc/os-release -o linux.efi
  uki-sign build … --keys keys -o linux.efi`,
    )
    .action(async (flags: BuildFlags) => {
      const signing = await loadSigning(io, flags);
      const unsigned = buildUki(await readParts(io, flags));
      const image = signing === undefined ? unsigned : await signPe(unsigned, signing);
      await writeOutput(io.cwd, flags.output, image);
      const { sizeBytes, sections, signatures } = inspectUki(image);
      if (flags.json) {
        const sha256 = createHash("sha256").update(image).digest("hex");
        writeJson(io, { kind: "uki-build", version: 1, path: flags.output, sizeBytes, sha256, signatures, sections });
        return;
      }
      const state = signatures === 0 ? "unsigned" : `signed by ${signing?.certificate.subject}`;
      io.stdout.write(`${flags.output}: ${formatBytes(sizeBytes)}, ${sections.length} sections, ${state}\n`);
    });
}

async function readParts(io: CommandIo, flags: BuildFlags): Promise<BuildUkiOptions> {
  const file = (path: string): Promise<Uint8Array> => readInput(io.cwd, path);
  const text = (value: string): Promise<string> => readText(io, value);
  const { stub, linux, initrd, sbat, dtbauto, section, uname, timeDateStamp } = flags;
  return {
    stub: await file(stub),
    linux: await file(linux),
    uname,
    timeDateStamp,
    initrd: initrd && (await Promise.all(initrd.map(file))),
    cmdline: await optional(flags.cmdline, text),
    osRelease: await optional(flags.osRelease, text),
    sbat: sbat && (await Promise.all(sbat.map(text))),
    profile: await optional(flags.profile, text),
    pcrpkey: await optional(flags.pcrpkey, file),
    pcrsig: await optional(flags.pcrsig, file),
    splash: await optional(flags.splash, file),
    dtb: await optional(flags.dtb, file),
    dtbauto: dtbauto && (await Promise.all(dtbauto.map(file))),
    hwids: await optional(flags.hwids, file),
    ucode: await optional(flags.ucode, file),
    sections: section && (await Promise.all(section.map((value) => readSection(io, value)))),
  };
}

async function readSection(io: CommandIo, value: string): Promise<{ name: string; data: Uint8Array }> {
  const separator = value.indexOf("=");
  if (separator < 1) throw new UsageError(`expected --section NAME=FILE, got ${JSON.stringify(value)}`);
  return { name: value.slice(0, separator), data: await readInput(io.cwd, value.slice(separator + 1)) };
}

async function optional<T>(value: string | undefined, read: (value: string) => Promise<T>): Promise<T | undefined> {
  return value === undefined ? undefined : await read(value);
}
