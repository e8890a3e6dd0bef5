// Sections of a unified kernel image.
// UAPI Group "Unified Kernel Image (UKI)" specification 1.0 (https://uapi-group.org/specifications/specs/unified_kernel_image/);
// systemd 257 systemd-stub(7) for `.hwids`, `.dtbauto` and the order of measurement, systemd 258 for `.efifw`.

/** sections that each profile may bring one of its own of */
const OWN_SECTION_NAMES = [
  ".linux",
  ".osrel",
  ".cmdline",
  ".initrd",
  ".ucode",
  ".splash",
  ".dtb",
  ".uname",
  ".sbat",
] as const;

/** sections in the order in which systemd-stub measures them into PCR 11; `.efifw` is known to stubs from 258 on */
export const MEASURED_SECTION_NAMES = [
  ...OWN_SECTION_NAMES,
  ".pcrpkey",
  ".profile",
  ".dtbauto",
  ".hwids",
  ".efifw",
] as const;

/** sections that hold UTF-8 text */
export const TEXT_SECTION_NAMES: readonly string[] = [
  ".cmdline",
  ".osrel",
  ".uname",
  ".sbat",
  ".pcrpkey",
  ".pcrsig",
  ".profile",
  ".sdmagic",
];

/** sections that belong to the stub program, not to the UKI */
export const STUB_SECTION_NAMES: readonly string[] = [".text", ".rodata", ".data", ".reloc", ".bss"];

/** first line of every `.sbat` section (shim SBAT.md, "Version and Component Metadata") */
export const SBAT_HEADER = "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md";
/** line by which unified kernel images as such can be revoked */
export const SBAT_UKI = "uki,1,UKI,uki,1,https://uapi-group.org/specifications/specs/unified_kernel_image/";
/** line by which addons as such can be revoked, the one that ukify 257 writes */
export const SBAT_ADDON =
  "uki-addon,1,UKI Addon,addon,1,https://www.freedesktop.org/software/systemd/man/latest/systemd-stub.html";

/** initrds in one section start at multiples of this many bytes */
export const INITRD_ALIGNMENT = 4;

// Linux/x86 boot protocol 2.00 and later (Documentation/arch/x86/boot.rst): where a bzImage names its release.
/** `HdrS`, u32 */
export const BZIMAGE_MAGIC = 0x5372_6448;
export const BZIMAGE_MAGIC_OFFSET = 0x202;
/** u16: position of the NUL-terminated version text, less 0x200 */
export const BZIMAGE_KERNEL_VERSION = 0x20e;
export const BZIMAGE_KERNEL_VERSION_BASE = 0x200;
/** longest version text that is looked at, in bytes */
export const BZIMAGE_MAX_VERSION_SIZE = 128;

/** begins the text that every Linux kernel carries (init/version.c) */
export const LINUX_BANNER = "Linux version ";

// EFI zboot images (Linux v6.12 drivers/firmware/efi/libstub/zboot-header.S), u32 each.
/** `zimg` */
export const ZBOOT_MAGIC = 0x676d_697a;
export const ZBOOT_MAGIC_OFFSET = 4;
export const ZBOOT_PAYLOAD_OFFSET = 8;
export const ZBOOT_PAYLOAD_SIZE = 12;
export const ZBOOT_HEADER_BYTES = 64;

/** sections that a profile's image brings into a unified kernel image (ukify(1) 257, `--join-profile=`) */
export const PROFILE_SECTION_NAMES: readonly string[] = [".profile", ...OWN_SECTION_NAMES];

/** sections by which an addon brings something (systemd-stub(7) 257, "Companion Files") */
export const ADDON_SECTION_NAMES: readonly string[] = [
  ".cmdline",
  ".dtb",
  ".dtbauto",
  ".hwids",
  ".initrd",
  ".efifw",
  ".ucode",
];
