import type { Bytes } from "../bytes/byte-source.ts";

/** What images, addons and profiles have in common. */
interface UkiParts {
  /** systemd's stub program: `linuxx64.efi.stub` */
  readonly stub: Bytes;
  /** initrd, or several that are joined in order, each at a multiple of 4 bytes */
  readonly initrd?: Bytes | readonly Bytes[] | undefined;
  /** kernel command line; in text, runs of blanks and newlines become one blank; bytes are taken as they are */
  readonly cmdline?: string | Uint8Array | undefined;
  /** kernel release as `uname -r` prints it */
  readonly uname?: string | undefined;
  /** device tree, one for all machines */
  readonly dtb?: Bytes | undefined;
  /** processor microcode, an uncompressed cpio */
  readonly ucode?: Bytes | undefined;
  /** PE `TimeDateStamp`, `seconds` since 1970; the stub's when absent */
  readonly timeDateStamp?: number | undefined;
}

/** What images and addons have in common. */
interface UkiHardwareParts extends UkiParts {
  /** device trees of which the stub picks the one that fits the machine */
  readonly dtbauto?: readonly Bytes[] | undefined;
  /** hardware identifiers that `dtbauto` and `efifw` are picked by, see `encodeHardwareIds` */
  readonly hwids?: Bytes | undefined;
  /** firmware of which the stub picks the one that fits the machine, see `encodeUkiFirmware`; stubs know it from 258 on */
  readonly efifw?: readonly Bytes[] | undefined;
  /** further sections, after the known ones */
  readonly sections?: readonly { readonly name: string; readonly data: Bytes }[] | undefined;
}

/** Parts of an addon; none is modified or retained. `stub` is systemd's addon stub: `addonx64.efi.stub`. */
export interface BuildUkiAddonOptions extends UkiHardwareParts {
  /** `.sbat` texts to merge after that of the stub; a generic entry for addons when absent */
  readonly sbat?: readonly string[] | undefined;
}

/** Parts of a profile; none is modified or retained. */
export interface BuildUkiProfileOptions extends UkiParts {
  /** description of the profile: `ID=factory-reset\nTITLE=Factory reset` */
  readonly profile: string | Uint8Array;
  /** content of `os-release` */
  readonly osRelease?: string | Uint8Array | undefined;
  /** boot logo, BMP */
  readonly splash?: Bytes | undefined;
}

/** Parts of a unified kernel image; none is modified or retained. */
export interface BuildUkiOptions extends UkiHardwareParts {
  /** kernel, a PE image (on x86 the bzImage), or one packed with gzip */
  readonly linux: Bytes;
  /** content of `os-release` */
  readonly osRelease?: string | Uint8Array | undefined;
  /** `.sbat` texts to merge after those of stub and kernel; a generic entry for unified kernel images when absent */
  readonly sbat?: readonly string[] | undefined;
  /** public key of PCR signatures, PEM */
  readonly pcrpkey?: string | Uint8Array | undefined;
  /** PCR signatures, JSON; with several profiles one for each, the base profile's first */
  readonly pcrsig?: string | Uint8Array | readonly (string | Uint8Array | undefined)[] | undefined;
  /** boot logo, BMP */
  readonly splash?: Bytes | undefined;
  /** description of the base profile: `ID=main\nTITLE=…`; required with `joinProfiles` */
  readonly profile?: string | Uint8Array | undefined;
  /** further profiles, each an image that `buildUkiProfile` or `ukify build --profile=` made */
  readonly joinProfiles?: readonly Bytes[] | undefined;
}
