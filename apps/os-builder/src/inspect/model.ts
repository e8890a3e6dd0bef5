/** One partition of an image. */
export interface InspectedPartition {
  readonly number: number;
  /** name in the partition table, as it is there: whoever shows it has to make it harmless */
  readonly label: string;
  /** name of the discoverable type, or the type's GUID */
  readonly type: string;
  readonly uuid: string;
  readonly startBytes: number;
  readonly sizeBytes: number;
  /** what is in it, as a person would say it */
  readonly content: string;
}

/**
 * What became of one link of the trust chain: `verified` by what should vouch for it; `unchecked`, intact, but nobody
 * said whom to trust; `refused`, as a machine would; `missing`, nothing there.
 */
export type Verdict = "verified" | "unchecked" | "refused" | "missing";

/**
 * One link: something, and what vouches for it. Each is judged by itself; what hangs from a refused link is worth no
 * more than that link.
 */
export interface TrustLink {
  /** what is vouched for: `EFI/BOOT/BOOTX64.EFI` */
  readonly subject: string;
  /** what it is, in a few words: `boot loader` */
  readonly role: string;
  /** what vouches for it: a certificate's name, a hash in the link before */
  readonly by: string;
  readonly verdict: Verdict;
  /** facts, or the reason of a refusal */
  readonly detail: string;
}

/** What a disk image holds, and how far each part is vouched for. */
export interface ImageInspection {
  readonly path: string;
  readonly sizeBytes: number;
  readonly diskGuid: string;
  /** what is wrong with the partition table's copies, one sentence each */
  readonly warnings: readonly string[];
  readonly partitions: readonly InspectedPartition[];
  /** from the firmware down */
  readonly chain: readonly TrustLink[];
}

/** A link's verdict as a person would say it: `by CN=particle db`, `refused by the root hash`, `missing`. */
export function describeVerdict({ verdict, by }: TrustLink): string {
  const words = {
    verified: `by ${by}`,
    unchecked: `unchecked, ${by}`,
    refused: `refused by ${by}`,
    missing: "missing",
  };
  return words[verdict];
}
