/** How guest code is run: by the processor through KVM, or by QEMU's translator. */
export type AcceleratorKind = "kvm" | "tcg";

/** An accelerator and why it was chosen. */
export interface Accelerator {
  readonly kind: AcceleratorKind;
  /** one sentence for people */
  readonly reason: string;
}
