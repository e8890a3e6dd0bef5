import { type DiskImage, type DiskPartition, type FatVolume, openDiskImage, openFat } from "@leveret/disk-image";
import { decodeSuperblock, verifyVerityTree, windowSource } from "@leveret/erofs-meta";
import {
  type Certificate,
  decodeVeritySignaturePartition,
  examineSignatures,
  inspectUki,
  verifyPe,
  verifyVeritySignaturePartition,
} from "@leveret/uki-sign";
import type { ImageInspection, InspectedPartition, TrustLink } from "./model.ts";

/** Certificates that an inspected image has to be signed by; without them, signatures are only read. */
export interface TrustedCertificates {
  readonly db: readonly Certificate[];
  readonly verity: readonly Certificate[];
}

/**
 * Reads a disk image's partitions and follows its trust chain: firmware, boot loader, kernel image, root hash, /usr.
 * The image is only read, and nothing in it is believed.
 *
 * @param path - A raw disk image.
 * @param trusted - What to check signatures against.
 * @throws {DiskImageError} When there is no partition table in it.
 */
export async function inspectImage(path: string, trusted: TrustedCertificates | undefined): Promise<ImageInspection> {
  await using disk = await openDiskImage(path);
  const partitions: InspectedPartition[] = [];
  for (const partition of disk.partitions) partitions.push(await describePartition(disk, partition));
  return {
    path,
    sizeBytes: disk.sizeBytes,
    diskGuid: disk.gpt.table.diskGuid,
    partitions,
    chain: await readChain(disk, trusted),
  };
}

async function describePartition(disk: DiskImage, partition: DiskPartition): Promise<InspectedPartition> {
  const { number, label, typeName, type, uuid, offsetBytes, sizeBytes } = partition;
  const content = await describeContent(disk, partition).catch((error: unknown) => reasonOf(error));
  return { number, label, type: typeName ?? type, uuid, startBytes: offsetBytes, sizeBytes, content };
}

async function describeContent(disk: DiskImage, { number, typeName, label }: DiskPartition): Promise<string> {
  const source = disk.open(number);
  if (typeName === "esp") return `FAT, ${(await listFiles(await openFat(source))).length} files`;
  if (label === "_empty") return "free slot";
  if (typeName?.startsWith("usr") !== true) return "";
  if (typeName.endsWith("-sig")) return "signature of the root hash";
  if (typeName.endsWith("-verity")) return "hash tree";
  const { inodes } = decodeSuperblock(await source.read(0, 4096));
  return `EROFS, ${inodes} inodes`;
}

async function readChain(disk: DiskImage, trusted: TrustedCertificates | undefined): Promise<TrustLink[]> {
  const esp = disk.partitions.find(({ typeName }) => typeName === "esp");
  if (esp === undefined) return [missing("EFI system partition", "boot loader", "no such partition")];
  const volume = await openFat(disk.open(esp.number));
  const files = await listFiles(volume);
  const loader = files.find((file) => file.toLowerCase() === "efi/boot/bootx64.efi");
  const kernels = files.filter((file) => /^efi\/linux\/[^/]+\.efi$/i.test(file)).sort();
  const chain: TrustLink[] = [];
  if (loader === undefined) chain.push(missing("EFI/BOOT/BOOTX64.EFI", "boot loader", "not on the ESP"));
  else chain.push(signedFile(loader, "boot loader", await volume.readFile(loader), trusted));
  // The boot loader takes the newest version; with one slot filled there is one.
  const kernel = kernels.at(-1);
  if (kernel === undefined) return [...chain, missing("EFI/Linux/*.efi", "kernel image", "not on the ESP")];
  const image = await volume.readFile(kernel);
  chain.push(signedFile(kernel, "kernel image", image, trusted));
  const commandLine = inspectUki(image).sections.find(({ name }) => name === ".cmdline")?.text ?? "";
  const rootHash = /(?:^| )usrhash=([0-9a-f]{64})(?: |$)/.exec(commandLine)?.[1];
  if (rootHash === undefined)
    return [...chain, missing("usrhash=", "root hash of /usr", "not on the kernel command line")];
  return [...chain, await signatureLink(disk, rootHash, trusted), await usrLink(disk, rootHash)];
}

function signedFile(
  subject: string,
  role: string,
  image: Uint8Array,
  trusted: TrustedCertificates | undefined,
): TrustLink {
  try {
    if (trusted !== undefined) {
      const { signer } = verifyPe(image, { db: { certificates: [...trusted.db] } });
      return {
        subject,
        role,
        by: signer?.certificate.subject ?? "its digest in db",
        verdict: "verified",
        detail: "Authenticode",
      };
    }
    const [signature] = examineSignatures(image);
    if (signature?.signer === undefined) throw signature?.problem ?? new Error("it carries no signature");
    const by = `says ${signature.signer.certificate.subject}`;
    return { subject, role, by, verdict: "unchecked", detail: "intact; --keys checks by whom" };
  } catch (error) {
    return { subject, role, by: "firmware's db", verdict: "refused", detail: reasonOf(error) };
  }
}

async function signatureLink(
  disk: DiskImage,
  rootHash: string,
  trusted: TrustedCertificates | undefined,
): Promise<TrustLink> {
  const link = { subject: `${rootHash.slice(0, 16)}…`, role: "root hash of /usr" };
  try {
    const source = openSlot(disk, "usr-x86-64-verity-sig", rootHash);
    const partition = await source.read(0, Math.min(source.sizeBytes, 64 * 1024));
    const { rootHash: signed } = decodeVeritySignaturePartition(partition);
    if (signed !== rootHash) throw new Error(`it signs ${signed.slice(0, 16)}…, the kernel image pins another`);
    if (trusted === undefined)
      return { ...link, by: "PKCS#7", verdict: "unchecked", detail: "pinned by the kernel image" };
    const { certificateFingerprint } = verifyVeritySignaturePartition(partition, { rootHash, trusted: trusted.verity });
    const signer =
      trusted.verity.find(({ fingerprint }) => fingerprint === certificateFingerprint) ?? trusted.verity[0];
    const by = signer?.subject ?? "";
    return { ...link, by, verdict: "verified", detail: "PKCS#7, and pinned by the kernel image" };
  } catch (error) {
    return { ...link, by: "its signature", verdict: "refused", detail: reasonOf(error) };
  }
}

async function usrLink(disk: DiskImage, rootHash: string): Promise<TrustLink> {
  const link = { subject: "/usr", role: "file system", by: "the root hash" };
  try {
    const data = openSlot(disk, "usr-x86-64", rootHash);
    const tree = openSlot(disk, "usr-x86-64-verity", rootHash);
    const { blocks, blockSize } = decodeSuperblock(await data.read(0, 4096));
    const contentBytes = Number(blocks) * blockSize;
    if (contentBytes > data.sizeBytes) throw new Error("its file system is longer than its partition");
    const report = await verifyVerityTree(windowSource(data, 0, contentBytes), tree, {
      rootHash: Buffer.from(rootHash, "hex"),
    });
    if (!report.rootHashMatches) throw new Error("the hash tree has another root hash");
    const damaged =
      report.damagedDataBlocks.reduce((sum, { count }) => sum + count, 0) + report.damagedHashBlocks.length;
    if (!report.ok) throw new Error(`${damaged} damaged blocks`);
    return { ...link, verdict: "verified", detail: `every one of ${blocks} blocks` };
  } catch (error) {
    return { ...link, verdict: "refused", detail: reasonOf(error) };
  }
}

// Discoverable partitions: data and tree are the ones whose UUIDs are the halves of the root hash; the signature lies
// in the slot whose label is theirs.
function openSlot(disk: DiskImage, typeName: string, rootHash: string) {
  const digits = (uuid: string): string => uuid.replaceAll("-", "");
  const data = disk.partitions.find(
    ({ uuid, typeName: type }) => type === "usr-x86-64" && digits(uuid) === rootHash.slice(0, 32),
  );
  const found = disk.partitions.find(({ typeName: type, label, uuid }) => {
    if (type !== typeName) return false;
    return typeName.endsWith("-verity") ? digits(uuid) === rootHash.slice(32) : label === data?.label;
  });
  if (found === undefined) throw new Error(`no ${typeName} partition belongs to this root hash`);
  return disk.open(found.number);
}

async function listFiles(volume: FatVolume): Promise<string[]> {
  const files: string[] = [];
  for await (const { path, entry } of volume.walk()) if (!entry.isDirectory) files.push(path);
  return files;
}

function missing(subject: string, role: string, detail: string): TrustLink {
  return { subject, role, by: "nothing", verdict: "missing", detail };
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? (error.message.split("\n")[0] ?? "") : String(error);
}
