import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { encodeCpio } from "@leveret/qemu-harness";
import {
  BOOT_PHASES,
  buildUki,
  type Certificate,
  measuredSections,
  predictPcr11Table,
  type Signer,
  signPe,
} from "@leveret/uki-sign";
import type { OsConfig } from "../config/schema.ts";
import type { Artefacts } from "../nix/artefacts.ts";
import { releaseLines } from "../plan.ts";

/** Where the initrd finds the signature of /usr's root hash. */
const SIGNATURE_PATH = "usr/lib/leveret/usr.roothash.p7s";

/** What {@link buildSignedUki} puts together. */
export interface SignedUkiOptions {
  readonly artefacts: Artefacts;
  readonly config: OsConfig;
  /** root hash of /usr, hexadecimal, and its signature */
  readonly rootHash: string;
  readonly rootHashSignature: Uint8Array;
  readonly signer: Signer;
  readonly certificate: Certificate;
  readonly epochSeconds: number;
}

/** A signed unified kernel image and what a TPM will say of it. */
export interface SignedUki {
  readonly image: Uint8Array;
  /** kernel command line */
  readonly commandLine: string;
  /** expected PCR 11 after each boot phase, by the phase's path, hexadecimal, SHA-256 bank */
  readonly pcr11: Readonly<Record<string, string>>;
}

/**
 * Assembles and signs the unified kernel image. It pins one /usr: the root hash is on its command line, and the
 * signature that the kernel checks is in an initrd of its own behind the one that Nix built.
 */
export async function buildSignedUki(options: SignedUkiOptions): Promise<SignedUki> {
  const { artefacts, config, epochSeconds, signer, certificate } = options;
  const bootFile = (name: string): Promise<Uint8Array> => readFile(join(artefacts.bootFiles, name));
  const commandLine = kernelCommandLine(config, options.rootHash);
  const osRelease = await readFile(join(artefacts.bootFiles, "os-release"), "utf8");
  const unsigned = buildUki({
    stub: await bootFile("linuxx64.efi.stub"),
    linux: await bootFile("linux"),
    initrd: [
      await readFile(join(artefacts.initrd, "initrd")),
      encodeCpio([{ path: SIGNATURE_PATH, data: options.rootHashSignature }], epochSeconds),
    ],
    cmdline: commandLine,
    osRelease: mergeRelease(osRelease, releaseLines(config)),
    timeDateStamp: epochSeconds,
  });
  const image = await signPe(unsigned, { signer, certificate, signingTime: new Date(epochSeconds * 1000) });
  return { image, commandLine, pcr11: predictedPcr11(image) };
}

/** The kernel command line of an image. */
export function kernelCommandLine(config: OsConfig, rootHash: string): string {
  return [
    "rw",
    `usrhash=${rootHash}`,
    // The kernel itself checks the signature against the keys in db, and takes no unsigned verity device at all.
    `systemd.verity_usr_options=root-hash-signature=/${SIGNATURE_PATH},panic-on-corruption`,
    "dm_verity.require_signatures=1",
    // A machine that can't go on starts again, and the boot loader may choose another version.
    "panic=10",
    // Linux tries at its start whether the timer ticks, and panics if it doesn't. An emulated one on a busy host ticks
    // late; under KVM and Hyper-V Linux leaves that test out by itself.
    "no_timer_check",
    // Nobody sits in front of a first boot; what it asks for comes as credentials.
    "systemd.firstboot=no",
    ...config.kernel.arguments,
  ].join(" ");
}

// os-release(5): what the image says of itself takes the place of what the packages say.
function mergeRelease(osRelease: string, ours: string): string {
  const keys = ours.split("\n").map((line) => line.split("=")[0]);
  const kept = osRelease.split("\n").filter((line) => line !== "" && !keys.includes(line.split("=")[0]));
  return `${kept.join("\n")}\n${ours}`;
}

function predictedPcr11(image: Uint8Array): Record<string, string> {
  const sections = measuredSections(image);
  const predictions = predictPcr11Table({ sections, phases: BOOT_PHASES, banks: ["sha256"] });
  return Object.fromEntries(predictions.map(({ phasePath, value }) => [phasePath, Buffer.from(value).toString("hex")]));
}
