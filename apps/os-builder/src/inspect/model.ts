/** One partition of an image. */
export interface InspectedPartition {
  readonly number: number;
  readonly label: string;
  /** name of the discoverable type, or the type's GUID */
  readonly type: string;
  readonly uuid: string;
  readonly startBytes: number;
  readonly sizeBytes: number;
  /** what is in it, as a person would say it */
  readonly content: string;
}

/** What became of one link of the trust chain. */
export type Verdict = "verified" | "unchecked" | "refused" | "missing";

/** One link: something, and what vouches for it. */
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
  readonly partitions: readonly InspectedPartition[];
  readonly chain: readonly TrustLink[];
}
