import { UsageError } from "@leveret/command";
import type { Command } from "commander";
import type { ByteSource } from "../bytes/byte-source.ts";
import type { BuildUkiAddonOptions, BuildUkiOptions, BuildUkiProfileOptions } from "../uki/parts.ts";
import { collect, parseInteger, readText, readTextOrBytes } from "./arguments.ts";
import type { CommandFiles } from "./command-files.ts";
import { readFirmware, readHardwareIds } from "./hardware.ts";

/** Flags of {@link addPartOptions}. */
export interface PartFlags {
  readonly stub: string;
  readonly linux?: string;
  readonly initrd?: readonly string[];
  readonly cmdline?: string;
  readonly osRelease?: string;
  readonly uname?: string;
  readonly sbat?: readonly string[];
  readonly profile?: string;
  readonly joinProfile?: readonly string[];
  readonly pcrpkey?: string;
  readonly pcrsig?: readonly string[];
  readonly splash?: string;
  readonly dtb?: string;
  readonly dtbauto?: readonly string[];
  readonly hwids?: readonly string[];
  readonly efifw?: readonly string[];
  readonly ucode?: string;
  readonly section?: readonly string[];
  readonly timeDateStamp?: number;
}

/** Adds the flags that say what goes into an image. */
export function addPartOptions(command: Command): Command {
  return command
    .requiredOption("--stub <file>", "systemd's stub: linuxx64.efi.stub; addonx64.efi.stub for an addon")
    .option("--linux <file>", "kernel; without one, --profile makes a profile to join, and anything else an addon")
    .option("--initrd <file>", "initrd; several are joined in order", collect)
    .option("--cmdline <text>", "kernel command line; blanks count in @FILE only")
    .option("--os-release <text>", "content of os-release")
    .option("--uname <text>", "kernel release; read from the kernel by default")
    .option("--sbat <text>", "SBAT entries to merge; several allowed", collect)
    .option("--profile <text>", "description of the profile: 'ID=main' and other lines")
    .option(
      "--join-profile <file>",
      "further profile, built with --profile and without --linux; several allowed",
      collect,
    )
    .option("--pcrpkey <file>", "public key of PCR signatures, PEM")
    .option("--pcrsig <file>", "PCR signatures, JSON; with several profiles one for each", collect)
    .option("--splash <file>", "boot logo, BMP")
    .option("--dtb <file>", "device tree")
    .option("--dtbauto <file>", "device tree the stub picks by machine; several allowed", collect)
    .option(
      "--hwids <path>",
      "machines for --dtbauto and --efifw: JSON, or a directory of it; several allowed",
      collect,
    )
    .option("--efifw <id=file>", "firmware the stub picks by machine; several allowed", collect)
    .option("--ucode <file>", "processor microcode")
    .option("--section <name=file>", "further section; several allowed", collect)
    .option("--time-date-stamp <seconds>", "PE time stamp; the stub's by default", parseInteger);
}

/** Reads the parts of an image with a kernel. */
export async function readImageParts(files: CommandFiles, flags: PartFlags, linux: string): Promise<BuildUkiOptions> {
  const { file, small, text, all, smalls, texts } = readers(files);
  return {
    ...(await readCommonParts(files, flags)),
    linux: await file(linux),
    osRelease: await optional(flags.osRelease, text),
    sbat: await texts(flags.sbat),
    profile: await optional(flags.profile, text),
    joinProfiles: await all(flags.joinProfile),
    pcrpkey: await optional(flags.pcrpkey, small),
    pcrsig: await smalls(flags.pcrsig),
    splash: await optional(flags.splash, file),
  };
}

/** Reads the parts of an addon. */
export async function readAddonParts(files: CommandFiles, flags: PartFlags): Promise<BuildUkiAddonOptions> {
  refuse("an addon", flags, ["osRelease", "joinProfile", "pcrpkey", "pcrsig", "splash"]);
  return { ...(await readCommonParts(files, flags)), sbat: await readers(files).texts(flags.sbat) };
}

/** Reads the parts of a profile. */
export async function readProfileParts(
  files: CommandFiles,
  flags: PartFlags,
  profile: string,
): Promise<BuildUkiProfileOptions> {
  refuse("a profile", flags, ["joinProfile", "pcrpkey", "pcrsig", "dtbauto", "hwids", "efifw", "section", "sbat"]);
  const { file, text } = readers(files);
  const { stub, initrd, cmdline, uname, dtb, ucode, timeDateStamp } = await readCommonParts(files, flags);
  return {
    ...{ stub, initrd, cmdline, uname, dtb, ucode, timeDateStamp },
    profile: await text(profile),
    osRelease: await optional(flags.osRelease, text),
    splash: await optional(flags.splash, file),
  };
}

async function readCommonParts(files: CommandFiles, flags: PartFlags): Promise<BuildUkiAddonOptions> {
  const { file, all } = readers(files);
  const { uname, timeDateStamp, section, efifw } = flags;
  return {
    stub: await file(flags.stub),
    uname,
    timeDateStamp,
    initrd: await all(flags.initrd),
    cmdline: await optional(flags.cmdline, (value) => readTextOrBytes(files, value)),
    dtb: await optional(flags.dtb, file),
    dtbauto: await all(flags.dtbauto),
    hwids: await optional(flags.hwids, (paths) => readHardwareIds(files, paths)),
    efifw: efifw && (await Promise.all(efifw.map((value) => readFirmware(files, value)))),
    ucode: await optional(flags.ucode, file),
    sections: section && (await Promise.all(section.map((value) => readSection(files, value)))),
  };
}

function refuse(what: string, flags: PartFlags, names: readonly (keyof PartFlags)[]): void {
  const given = names.find((name) => flags[name] !== undefined);
  if (given === undefined) return;
  const flag = given.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  throw new UsageError(`expected --linux with --${flag}, got none: without a kernel this is ${what}`);
}

interface Readers {
  readonly file: (path: string) => Promise<ByteSource>;
  readonly small: (path: string) => Promise<Uint8Array>;
  readonly text: (value: string) => Promise<string>;
  readonly all: (paths: readonly string[] | undefined) => Promise<ByteSource[] | undefined>;
  readonly smalls: (paths: readonly string[] | undefined) => Promise<Uint8Array[] | undefined>;
  readonly texts: (values: readonly string[] | undefined) => Promise<string[] | undefined>;
}

function readers(files: CommandFiles): Readers {
  const file = (path: string): Promise<ByteSource> => files.open(path);
  const small = (path: string): Promise<Uint8Array> => files.read(path);
  const text = (value: string): Promise<string> => readText(files, value);
  return {
    file,
    small,
    text,
    all: (paths) => optional(paths, (given) => Promise.all(given.map(file))),
    smalls: (paths) => optional(paths, (given) => Promise.all(given.map(small))),
    texts: (values) => optional(values, (given) => Promise.all(given.map(text))),
  };
}

async function readSection(files: CommandFiles, value: string): Promise<{ name: string; data: ByteSource }> {
  const separator = value.indexOf("=");
  if (separator < 1) throw new UsageError(`expected --section NAME=FILE, got ${JSON.stringify(value)}`);
  return { name: value.slice(0, separator), data: await files.open(value.slice(separator + 1)) };
}

async function optional<T, R>(value: T | undefined, read: (value: T) => Promise<R>): Promise<R | undefined> {
  return value === undefined ? undefined : await read(value);
}
