// The `.hwids` section: which device tree or firmware fits which machine.
// systemd 257 src/boot/chid.h (struct Device); Microsoft "Specifying Hardware IDs for a Computer" for the identifiers
// (https://learn.microsoft.com/windows-hardware/drivers/install/specifying-hardware-ids-for-a-computer).

/** Device: descriptor 0, CHID (EFI_GUID) 4, offset of the name 20, offset of compatible or firmware identifier 24; all u32 LE. */
export const DEVICE_BYTES = 28;
export const DEVICE_CHID = 4;
export const DEVICE_NAME = 20;
export const DEVICE_MATCH = 24;
/** the descriptor holds the structure's size in its low 28 bits, and the type above */
export const DEVICE_TYPE_SHIFT = 28;
export const DEVICE_TYPES = { devicetree: 1, "uefi-fw": 2 } as const;

/** namespace of CHIDs, which are name-based UUIDs with SHA-1 (RFC 9562 section 5.5) over UTF-16LE text */
export const CHID_NAMESPACE = "70ffd812-4c7f-4c7d-0000-000000000000";

/** fields of HardwareID-0 to HardwareID-14, in the order in which they are joined by `&` */
export const HARDWARE_IDS = [
  ["manufacturer", "family", "productName", "productSku", "biosVendor", "biosVersion", "biosMajor", "biosMinor"],
  ["manufacturer", "family", "productName", "biosVendor", "biosVersion", "biosMajor", "biosMinor"],
  ["manufacturer", "productName", "biosVendor", "biosVersion", "biosMajor", "biosMinor"],
  ["manufacturer", "family", "productName", "productSku", "baseboardManufacturer", "baseboardProduct"],
  ["manufacturer", "family", "productName", "productSku"],
  ["manufacturer", "family", "productName"],
  ["manufacturer", "productSku", "baseboardManufacturer", "baseboardProduct"],
  ["manufacturer", "productSku"],
  ["manufacturer", "productName", "baseboardManufacturer", "baseboardProduct"],
  ["manufacturer", "productName"],
  ["manufacturer", "family", "baseboardManufacturer", "baseboardProduct"],
  ["manufacturer", "family"],
  ["manufacturer", "enclosureKind"],
  ["manufacturer", "baseboardManufacturer", "baseboardProduct"],
  ["manufacturer"],
] as const;

/** `.efifw`: magic 0, header size 4, size of the identifier with its NUL 8, size of the firmware 12; all u32 LE (systemd 258 efi-firmware.h) */
export const EFIFW_HEADER_BYTES = 16;
export const EFIFW_MAGIC = 0xfeed_dead;
