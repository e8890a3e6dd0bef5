/**
 * Variable store of EDK II in a firmware volume, as OVMF maps it from its second flash device.
 * UEFI Platform Initialization Specification 1.8, volume 3, section 3.2.1 (EFI_FIRMWARE_VOLUME_HEADER);
 * EDK II c5aa7e7d94 `MdeModulePkg/Include/Guid/VariableFormat.h`, `MdeModulePkg/Include/Guid/FaultTolerantWrite.h`.
 */

/** EFI_SYSTEM_NV_DATA_FV_GUID */
export const SYSTEM_NV_DATA_FV_GUID = "fff12b8d-7696-4c8b-a985-2747075b4f50";
/** gEfiAuthenticatedVariableGuid: variables have 60-byte headers */
export const AUTHENTICATED_VARIABLE_GUID = "aaf32c78-947b-439a-a180-2e144ec37792";
/** gEfiVariableGuid: variables have 32-byte headers without room for authentication */
export const PLAIN_VARIABLE_GUID = "ddcf3616-3275-4164-98b6-fe85707ffe7d";
/** gEdkiiWorkingBlockSignatureGuid */
export const FTW_WORKING_BLOCK_GUID = "9e58292b-7c68-497d-a0ce-6500fd9f1b95";

/** EFI_FIRMWARE_VOLUME_HEADER up to BlockMap, with the field offsets below, in bytes. */
export const FV_HEADER_BYTES = 56;
export const FV_GUID_OFFSET = 16;
export const FV_LENGTH_OFFSET = 32;
export const FV_SIGNATURE_OFFSET = 40;
export const FV_HEADER_LENGTH_OFFSET = 48;
/** `_FVH`, little-endian */
export const FV_SIGNATURE = 0x4856465f;

/** VARIABLE_STORE_HEADER: Signature 0, Size 16, Format 20, State 21. */
export const STORE_HEADER_BYTES = 28;
export const STORE_FORMATTED = 0x5a;
export const STORE_HEALTHY = 0xfe;

/**
 * AUTHENTICATED_VARIABLE_HEADER: StartId 0, State 2, Attributes 4, MonotonicCount 8, TimeStamp 16, PubKeyIndex 32,
 * NameSize 36, DataSize 40, VendorGuid 44; then name and data. Headers start at multiples of 4.
 */
export const VARIABLE_HEADER_BYTES = 60;
export const VARIABLE_ALIGNMENT_BYTES = 4;
export const VARIABLE_START_ID = 0x55aa;
/** Flash bits are only ever cleared, so each state has the bits of the one before. */
export const VARIABLE_STATE_ADDED = 0x3f;
/** VAR_ADDED and VAR_IN_DELETED_TRANSITION: valid as long as its successor is not */
export const VARIABLE_STATE_BEING_REPLACED = 0x3e;

/** EFI_FAULT_TOLERANT_WORKING_BLOCK_HEADER: Signature 0, Crc 16, WorkingBlockValid bits 20, WriteQueueSize 24. */
export const FTW_HEADER_BYTES = 32;
/** Where the working block can start. */
export const FLASH_BLOCK_BYTES = 4096;

/** Variables of EDK II that hold the state of Secure Boot beside the keys. */
export const EDK2_GUID = {
  secureBootEnable: "f0a30bc7-af08-4556-99c4-001009c93a44",
  customMode: "c076ec0c-7028-4399-a072-71ee5c448b9f",
  vendorKeysNv: "9073e4e0-60ec-4b6e-9903-4c223c260f3c",
} as const;
