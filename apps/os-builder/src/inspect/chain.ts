import { countText } from "@leveret/command";
import type { DiskImage, DiskPartition, FatVolume } from "@leveret/disk-image";
import { type VerityReport, verifyVerityTree } from "@leveret/erofs-meta";
import {
  type Certificate,
  DEFAULT_MAX_VERITY_SIGNATURE_BYTES,
  decodeVeritySignaturePartition,
  examineSignatures,
  inspectUki,
  verifyPe,
  verifyVeritySignaturePartition,
} from "@leveret/uki-sign";
import { firstLine } from "../internal/reason.ts";
import type { EspContent, EspReader } from "./esp.ts";
import type { TrustLink } from "./model.ts";

/** Certificates that an inspected image has to be signed by. */
export interface TrustedCertificates {
  /** firmware's: boot loader and kernel image */
  readonly db: readonly Certificate[];
  /** the kernel's: root hash of /usr */
  readonly verity: readonly Certificate[];
}

interface ChainOptions {
  readonly readEsp: EspReader;
  readonly trusted?: TrustedCertificates | undefined;
  readonly signal?: AbortSignal | undefined;
}

const LOADER = { subject: "EFI/BOOT/BOOTX64.EFI", role: "boot loader", by: "firmware's db" };
const KERNEL = { subject: "EFI/Linux/*.efi", role: "kernel image", by: "firmware's db" };
const ROOT_HASH = { subject: "usrhash=", role: "root hash of /usr", by: "its signature" };
const USR = { subject: "/usr", role: "file system", by: "the root hash" };

/** Follows the trust chain of a disk, as far as there is one. */
export async function readChain(disk: DiskImage, options: ChainOptions): Promise<TrustLink[]> {
  const esp = disk.partitions.find(({ typeName }) => typeName === "esp");
  if (esp === undefined) return [missing(LOADER, "no EFI system partition")];
  let content: EspContent;
  try {
    content = await options.readEsp(esp.number);
  } catch (error) {
    options.signal?.throwIfAborted();
    return [refused(LOADER, error)];
  }
  const { volume, programs } = content;
  const loader = await programLink(LOADER, volume, programs.loader, options);
  const kernel = await programLink(KERNEL, volume, programs.kernel, options);
  const chain = [loader.link, kernel.link];
  if (kernel.image === undefined) return chain;
  const rootHash = pinnedRootHash(kernel.image);
  if (rootHash === undefined) return [...chain, missing(ROOT_HASH, "not on the kernel command line")];
  return [...chain, await rootHashLink(disk, rootHash, options.trusted), await usrLink(disk, rootHash, options.signal)];
}

async function programLink(
  expected: typeof LOADER,
  volume: FatVolume,
  path: string | undefined,
  { trusted, signal }: ChainOptions,
): Promise<{ readonly link: TrustLink; readonly image?: Uint8Array }> {
  if (path === undefined) return { link: missing(expected, "not on the EFI system partition") };
  const about = { ...expected, subject: path };
  try {
    const image = await volume.readFile(path, { signal });
    return { link: signatureLink(about, image, trusted), image };
  } catch (error) {
    signal?.throwIfAborted();
    return { link: refused(about, error) };
  }
}

function signatureLink(about: typeof LOADER, image: Uint8Array, trusted: TrustedCertificates | undefined): TrustLink {
  try {
    if (trusted !== undefined) {
      const { signer } = verifyPe(image, { db: { certificates: trusted.db } });
      const by = signer?.certificate.subject ?? about.by;
      return { ...about, by, verdict: "verified", detail: "Authenticode" };
    }
    const [signature] = examineSignatures(image);
    if (signature?.signer === undefined) throw signature?.problem ?? new Error("expected a signature, got none");
    const by = `signed by ${signature.signer.certificate.subject}`;
    return { ...about, by, verdict: "unchecked", detail: "intact, whoever that is" };
  } catch (error) {
    return refused(about, error);
  }
}

function pinnedRootHash(kernel: Uint8Array): string | undefined {
  try {
    const commandLine = inspectUki(kernel).sections.find(({ name }) => name === ".cmdline")?.text ?? "";
    return /(?:^| )usrhash=([0-9a-f]{64})(?: |$)/.exec(commandLine)?.[1];
  } catch {
    // Whatever is wrong with the image stands in the link above.
    return undefined;
  }
}

async function rootHashLink(
  disk: DiskImage,
  rootHash: string,
  trusted: TrustedCertificates | undefined,
): Promise<TrustLink> {
  const about = { ...ROOT_HASH, subject: `${rootHash.slice(0, 16)}…` };
  const found = findSlot(disk, rootHash).signature;
  if (found === undefined) return missing(about, "no partition with a signature of this root hash");
  try {
    const source = disk.open(found.number);
    const partition = await source.read(0, Math.min(source.sizeBytes, DEFAULT_MAX_VERITY_SIGNATURE_BYTES));
    const { rootHash: signed } = decodeVeritySignaturePartition(partition);
    if (signed !== rootHash) throw new Error(`expected a signature of this root hash, got one of ${signed}`);
    if (trusted === undefined) {
      const by = "its signature was not looked at";
      return { ...about, by, verdict: "unchecked", detail: "pinned by the kernel image" };
    }
    const { certificateFingerprint } = verifyVeritySignaturePartition(partition, { rootHash, trusted: trusted.verity });
    const signer = trusted.verity.find(({ fingerprint }) => fingerprint === certificateFingerprint);
    const by = signer?.subject ?? about.by;
    return { ...about, by, verdict: "verified", detail: "PKCS#7, and pinned by the kernel image" };
  } catch (error) {
    return refused(about, error);
  }
}

async function usrLink(disk: DiskImage, rootHash: string, signal: AbortSignal | undefined): Promise<TrustLink> {
  const { data, tree } = findSlot(disk, rootHash);
  if (data === undefined || tree === undefined) return missing(USR, "no partitions that belong to this root hash");
  try {
    const report = await verifyVerityTree(disk.open(data.number), disk.open(tree.number), {
      rootHash: Buffer.from(rootHash, "hex"),
      signal,
    });
    if (!report.ok) throw new Error(describeDamage(report));
    return { ...USR, verdict: "verified", detail: `every one of ${report.superblock.dataBlocks} blocks` };
  } catch (error) {
    signal?.throwIfAborted();
    return refused(USR, error);
  }
}

function describeDamage(report: VerityReport): string {
  if (!report.rootHashMatches) return "expected a hash tree with this root hash, got another";
  const { damagedHashBlocks, damagedDataBlocks, unverifiableDataBlocks, isIncomplete, superblock } = report;
  const ranges = [...damagedDataBlocks, ...unverifiableDataBlocks].sort((a, b) => a.first - b.first);
  const blocks = ranges.reduce((sum, { count }) => sum + count, 0);
  const first = (ranges[0]?.first ?? 0) * superblock.dataBlockSize;
  const damaged = `${isIncomplete ? "at least " : ""}${countText(blocks, "damaged block")}`;
  const under = damagedHashBlocks.length === 0 ? "" : " under a damaged part of the hash tree";
  return `${damaged}${under}, the first at byte ${first}`;
}

interface Slot {
  readonly data: DiskPartition | undefined;
  readonly tree: DiskPartition | undefined;
  readonly signature: DiskPartition | undefined;
}

// Discoverable partitions: data and tree are the ones whose UUIDs are the halves of the root hash; the signature lies
// in the slot whose label is theirs.
function findSlot({ partitions }: DiskImage, rootHash: string): Slot {
  const find = (type: string, isIt: (partition: DiskPartition) => boolean): DiskPartition | undefined =>
    partitions.find((partition) => partition.typeName === type && isIt(partition));
  const hasUuid = (digits: string) => (partition: DiskPartition) => partition.uuid.replaceAll("-", "") === digits;
  const data = find("usr-x86-64", hasUuid(rootHash.slice(0, 32)));
  return {
    data,
    tree: find("usr-x86-64-verity", hasUuid(rootHash.slice(32))),
    signature: find("usr-x86-64-verity-sig", ({ label }) => label === data?.label),
  };
}

function missing(about: typeof LOADER, detail: string): TrustLink {
  return { ...about, by: "nothing", verdict: "missing", detail };
}

function refused(about: typeof LOADER, error: unknown): TrustLink {
  return { ...about, verdict: "refused", detail: firstLine(error) };
}
