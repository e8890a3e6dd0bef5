import { createHash } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { deterministicUuid, uuidsOfRootHash, writeDiskImage } from "@leveret/disk-image";
import type { DebianLock, Progress } from "@leveret/nix-gen";
import { encodeVeritySignaturePartition, type KeySet, signPe, signRootHash } from "@leveret/uki-sign";
import packageJson from "../../package.json" with { type: "json" };
import type { Project } from "../config/load.ts";
import { replaceFile } from "../internal/files.ts";
import { loadProjectKeys, SIGNING_ROLES } from "../keys.ts";
import type { Artefacts } from "../nix/artefacts.ts";
import { imageEpochSeconds, imageName, imageSeed, seededBytes } from "../plan.ts";
import { assertFits, type DiskLayout, diskBytes, diskLayout } from "./layout.ts";
import { type ImagePaths, imagePaths, stage } from "./staging.ts";
import { buildSignedUki, kernelCommandLine } from "./uki.ts";
import { buildUsrVerity } from "./verity.ts";

/** Version of {@link ImageRecord}; another one is made anew. */
const RECORD_VERSION = 1;

/** What an image is made of and what it will measure; written beside it as JSON. */
export interface ImageRecord {
  readonly kind: "os-image";
  readonly version: typeof RECORD_VERSION;
  readonly id: string;
  readonly imageVersion: string;
  /** digest of everything that went in: as long as it is the same, the image is up to date */
  readonly inputs: string;
  /** file names beside the record */
  readonly disk: string;
  readonly uki: string;
  /** size of the disk, and what of it takes room on this one, in `bytes` */
  readonly sizeBytes: number;
  readonly usedBytes: number;
  readonly ukiBytes: number;
  readonly usrBytes: number;
  /** root hash of /usr, hexadecimal */
  readonly rootHash: string;
  readonly commandLine: string;
  /** expected PCR 11 by phase path, hexadecimal, SHA-256 bank */
  readonly pcr11: Readonly<Record<string, string>>;
  /** SHA-256 of the certificates that firmware and kernel have to trust */
  readonly certificates: { readonly db: string; readonly verity: string };
}

/** How {@link buildImage} works. */
export interface BuildImageOptions {
  readonly artefacts: Artefacts;
  readonly lock: DebianLock;
  /** directory of the project's state, absolute */
  readonly stateDirectory: string;
  /** directory for the image, absolute */
  readonly outputDirectory: string;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: Progress | undefined;
}

/** An image on disk. */
export interface BuiltImage extends ImagePaths {
  readonly record: ImageRecord;
  /** whether it was there already */
  readonly upToDate: boolean;
}

/**
 * Signs the artefacts and puts the disk image together; does nothing when the image is up to date. Keys are used here,
 * outside of Nix, and nowhere else. Until all of its files are complete, what was there before stays as it was.
 *
 * @throws {OsBuilderError} `OS_BAD_KEYS`, `OS_SLOT_TOO_SMALL`, `OS_ESP_TOO_SMALL`, `OS_DISK_FULL`, `OS_NOT_WRITABLE`. {DiskImageError}
 *   `DISK_FULL`. {ErofsError} `EROFS_DISK_FULL`. An abort throws the signal's reason.
 */
export async function buildImage(project: Project, options: BuildImageOptions): Promise<BuiltImage> {
  const { config } = project;
  const { artefacts, lock, outputDirectory, signal, onProgress } = options;
  const keys = await loadProjectKeys(join(project.directory, config.keys), SIGNING_ROLES);
  const name = imageName(config);
  const paths = imagePaths(outputDirectory, name);
  const inputs = inputsDigest(options, project, keys);
  const current = await readRecord(paths.recordPath);
  if (current?.inputs === inputs && (await isComplete(current, paths)))
    return { record: current, ...paths, upToDate: true };

  const usrPath = join(artefacts.usr, "usr.erofs");
  const verity = await buildUsrVerity(config, usrPath, options.stateDirectory, { signal, onProgress });
  onProgress?.({ step: "signing" });
  const epochSeconds = imageEpochSeconds(lock);
  const { rootHash } = verity;
  const veritySigning = { signer: keys.signers.verity, certificate: keys.certificates.verity };
  const bootSigning = { signer: keys.signers.db, certificate: keys.certificates.db };
  const rootHashSignature = await signRootHash(rootHash, veritySigning);
  const uki = await buildSignedUki({ artefacts, config, rootHash, rootHashSignature, epochSeconds, ...bootSigning });
  const bootLoader = await signPe(await readFile(join(artefacts.bootFiles, "systemd-bootx64.efi")), {
    ...bootSigning,
    signingTime: new Date(epochSeconds * 1000),
  });
  const layout = diskLayout(config);
  const sizes = { usrBytes: verity.dataSizeBytes, ukiBytes: uki.image.length, bootLoaderBytes: bootLoader.length };
  assertFits(layout, sizes);
  signal?.throwIfAborted();

  await using staged = await stage(outputDirectory, name);
  const seed = imageSeed(config);
  // Discoverable partitions: the UUIDs of data and tree are the two halves of the root hash.
  const uuids = uuidsOfRootHash(Buffer.from(rootHash, "hex"));
  const disk = await writeDiskImage(staged.paths.disk, {
    diskGuid: deterministicUuid(seed, "disk"),
    seed,
    sizeBytes: diskBytes(layout),
    partitions: [
      {
        label: "esp",
        type: "esp",
        uuid: deterministicUuid(seed, "esp"),
        sizeBytes: layout.espBytes,
        content: {
          fat: {
            label: "ESP",
            volumeId: new DataView(seededBytes(seed, "esp-volume", 4).buffer).getUint32(0),
            time: new Date(epochSeconds * 1000),
            files: {
              "EFI/BOOT/BOOTX64.EFI": bootLoader,
              "EFI/systemd/systemd-bootx64.efi": bootLoader,
              [`EFI/Linux/${name}.efi`]: uki.image,
              "loader/loader.conf": new TextEncoder().encode("timeout 0\neditor no\n"),
            },
          },
        },
      },
      ...slot(name, layout, {
        usr: { uuid: uuids.data, content: { file: usrPath } },
        verity: { uuid: uuids.verity, content: { file: verity.path } },
        signature: {
          uuid: deterministicUuid(seed, "usr-verity-sig"),
          content: encodeVeritySignaturePartition({
            rootHash,
            certificate: keys.certificates.verity,
            signature: rootHashSignature,
          }),
        },
      }),
      ...slot("_empty", layout, {
        usr: { uuid: deterministicUuid(seed, "usr-b") },
        verity: { uuid: deterministicUuid(seed, "usr-b-verity") },
        signature: { uuid: deterministicUuid(seed, "usr-b-verity-sig") },
      }),
    ],
    signal,
    onProgress: ({ partition, doneBytes, totalBytes }) =>
      onProgress?.({ step: "writing the disk image", item: partition, doneBytes, totalBytes }),
  });
  await replaceFile(staged.paths.uki, uki.image);
  const record: ImageRecord = {
    kind: "os-image",
    version: RECORD_VERSION,
    id: config.id,
    imageVersion: config.version,
    inputs,
    disk: `${name}.raw`,
    uki: `${name}.efi`,
    sizeBytes: disk.sizeBytes,
    usedBytes: (await stat(staged.paths.disk)).blocks * 512,
    ukiBytes: uki.image.length,
    usrBytes: verity.dataSizeBytes,
    rootHash,
    commandLine: uki.commandLine,
    pcr11: uki.pcr11,
    certificates: { db: keys.certificates.db.fingerprint, verity: keys.certificates.verity.fingerprint },
  };
  await replaceFile(staged.paths.recordPath, `${JSON.stringify(record, null, 2)}\n`);
  await staged.publish(paths);
  return { record, ...paths, upToDate: false };
}

interface SlotPart {
  readonly uuid: string;
  readonly content?: Uint8Array | { readonly file: string };
}

// A slot is complete in itself. Its label names the version in it, or says that it is free: systemd-sysupdate's way.
function slot(label: string, layout: DiskLayout, parts: Readonly<Record<"usr" | "verity" | "signature", SlotPart>>) {
  return [
    { label, type: "usr-x86-64", sizeBytes: layout.usrSlotBytes, ...parts.usr },
    { label, type: "usr-x86-64-verity", sizeBytes: layout.veritySlotBytes, ...parts.verity },
    { label, type: "usr-x86-64-verity-sig", sizeBytes: layout.signatureSlotBytes, ...parts.signature },
  ];
}

// Whatever changes the image is in here. Signatures follow from the keys, which certificates stand for.
function inputsDigest(
  { artefacts, lock }: BuildImageOptions,
  { config }: Project,
  keys: KeySet<(typeof SIGNING_ROLES)[number]>,
): string {
  const { db, verity } = keys.certificates;
  const inputs = {
    record: RECORD_VERSION,
    builder: packageJson.version,
    artefacts: [artefacts.usr, artefacts.initrd, artefacts.bootFiles].map((path) => basename(path)),
    config,
    commandLine: kernelCommandLine(config, ""),
    epoch: imageEpochSeconds(lock),
    certificates: [db.fingerprint, verity.fingerprint],
  };
  return createHash("sha256").update(JSON.stringify(inputs)).digest("hex");
}

// Undefined when there is none, or one of another version.
async function readRecord(path: string): Promise<ImageRecord | undefined> {
  try {
    const record = JSON.parse(await readFile(path, "utf8")) as ImageRecord;
    return record.kind === "os-image" && record.version === RECORD_VERSION ? record : undefined;
  } catch {
    return undefined;
  }
}

// A file that changed after its record was written is not the one that the record is about.
async function isComplete(record: ImageRecord, paths: ImagePaths): Promise<boolean> {
  const { mtimeMs: recordedMs } = await stat(paths.recordPath);
  const sizes = [
    [paths.disk, record.sizeBytes],
    [paths.uki, record.ukiBytes],
  ] as const;
  for (const [path, size] of sizes) {
    const found = await stat(path).catch(() => undefined);
    if (found?.size !== size || found.mtimeMs > recordedMs) return false;
  }
  return true;
}
