// What firmware measures of a GUID Partition Table: UEFI 2.10 section 5.3; TCG PC Client Platform Firmware Profile 1.06
// section 10.2.4 (UEFI_GPT_DATA). Offsets in bytes, little-endian.

export const GPT_SIGNATURE = "EFI PART";
/** size of the header that is measured, whatever HeaderSize says */
export const GPT_HEADER_BYTES = 92;
/** u64: where the entries begin, in blocks */
export const GPT_ENTRIES_LBA = 72;
/** u32: how many there are, used ones or not */
export const GPT_ENTRY_COUNT = 80;
/** u32: how long each is */
export const GPT_ENTRY_SIZE = 84;
/** an entry begins with the GUID of its type, zeros when it is not used */
export const GPT_TYPE_BYTES = 16;
/** block sizes that disks have */
export const GPT_BLOCK_SIZES = [512, 4096] as const;
