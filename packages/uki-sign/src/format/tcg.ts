/**
 * TCG PC Client Platform Firmware Profile 1.06, sections 10.2 (event structures), 10.4 (event types) and 10.5;
 * TCG Algorithm Registry 1.34, table 3 (hash algorithms). https://trustedcomputinggroup.org/resource/pc-client-specific-platform-firmware-profile-specification/
 */

import { TPM_ALG_ID } from "./tpm.ts";

/** TCG_PCR_EVENT: PCRIndex 0, EventType 4, SHA-1 Digest 8, EventDataSize 28, Event 32. */
export const SHA1_EVENT_HEADER_BYTES = 32;
export const SHA1_EVENT_DIGEST_OFFSET = 8;
export const SHA1_EVENT_SIZE_OFFSET = 28;
export const SHA1_BYTES = 20;

/** TCG_PCR_EVENT2: PCRIndex 0, EventType 4, digest count 8, then per digest algorithm (u16) and digest, EventSize, Event. */
export const EVENT2_DIGESTS_OFFSET = 12;

/**
 * TCG_EfiSpecIDEvent: Signature 0, PlatformClass 16, SpecVersionMinor 20, SpecVersionMajor 21, SpecErrata 22, UintnSize 23,
 * NumberOfAlgorithms 24, then per algorithm its identifier and digest size (u16 each), VendorInfoSize (u8), VendorInfo.
 */
export const SPEC_ID_SIGNATURE = "Spec ID Event03\0";
export const SPEC_ID_ALGORITHM_COUNT_OFFSET = 24;
export const SPEC_ID_ALGORITHMS_OFFSET = 28;

/** TCG_EfiStartupLocalityEvent: Signature 0, StartupLocality 16. */
export const STARTUP_LOCALITY_SIGNATURE = "StartupLocality\0";
export const STARTUP_LOCALITY_BYTES = 17;

/** Hash algorithms by TPM_ALG_ID, with the names this package gives them and the size of a digest in bytes. */
export const HASH_ALGORITHMS: ReadonlyMap<number, { readonly name: string; readonly sizeBytes: number }> = new Map([
  [TPM_ALG_ID.sha1, { name: "sha1", sizeBytes: SHA1_BYTES }],
  [TPM_ALG_ID.sha256, { name: "sha256", sizeBytes: 32 }],
  [TPM_ALG_ID.sha384, { name: "sha384", sizeBytes: 48 }],
  [TPM_ALG_ID.sha512, { name: "sha512", sizeBytes: 64 }],
  [TPM_ALG_ID["sm3-256"], { name: "sm3-256", sizeBytes: 32 }],
  [TPM_ALG_ID["sha3-256"], { name: "sha3-256", sizeBytes: 32 }],
  [TPM_ALG_ID["sha3-384"], { name: "sha3-384", sizeBytes: 48 }],
  [TPM_ALG_ID["sha3-512"], { name: "sha3-512", sizeBytes: 64 }],
]);
/** Longest digest of any hash algorithm. */
export const MAX_DIGEST_BYTES = 64;

/** Event types that this package looks into, section 10.4.1 table 27. */
export const EV_NO_ACTION = 0x3;
export const EV_SEPARATOR = 0x4;
export const EV_ACTION = 0x5;
export const EV_EVENT_TAG = 0x6;
export const EV_S_CRTM_VERSION = 0x8;
export const EV_POST_CODE = 0x1;
export const EV_POST_CODE2 = 0x13;
export const EV_EFI_VARIABLE_DRIVER_CONFIG = 0x8000_0001;
export const EV_EFI_VARIABLE_BOOT = 0x8000_0002;
export const EV_EFI_BOOT_SERVICES_APPLICATION = 0x8000_0003;
export const EV_EFI_BOOT_SERVICES_DRIVER = 0x8000_0004;
export const EV_EFI_RUNTIME_SERVICES_DRIVER = 0x8000_0005;
export const EV_EFI_GPT_EVENT = 0x8000_0006;
export const EV_EFI_ACTION = 0x8000_0007;
export const EV_EFI_PLATFORM_FIRMWARE_BLOB = 0x8000_0008;
export const EV_EFI_PLATFORM_FIRMWARE_BLOB2 = 0x8000_000a;
export const EV_EFI_VARIABLE_BOOT2 = 0x8000_000c;
export const EV_EFI_GPT_EVENT2 = 0x8000_000d;
export const EV_EFI_HCRTM_EVENT = 0x8000_0010;
export const EV_EFI_VARIABLE_AUTHORITY = 0x8000_00e0;

/** Names of event types. */
export const EVENT_TYPE_NAMES: ReadonlyMap<number, string> = new Map([
  [0x0, "EV_PREBOOT_CERT"],
  [EV_POST_CODE, "EV_POST_CODE"],
  [0x2, "EV_UNUSED"],
  [EV_NO_ACTION, "EV_NO_ACTION"],
  [EV_SEPARATOR, "EV_SEPARATOR"],
  [EV_ACTION, "EV_ACTION"],
  [EV_EVENT_TAG, "EV_EVENT_TAG"],
  [0x7, "EV_S_CRTM_CONTENTS"],
  [EV_S_CRTM_VERSION, "EV_S_CRTM_VERSION"],
  [0x9, "EV_CPU_MICROCODE"],
  [0xa, "EV_PLATFORM_CONFIG_FLAGS"],
  [0xb, "EV_TABLE_OF_DEVICES"],
  [0xc, "EV_COMPACT_HASH"],
  [0xd, "EV_IPL"],
  [0xe, "EV_IPL_PARTITION_DATA"],
  [0xf, "EV_NONHOST_CODE"],
  [0x10, "EV_NONHOST_CONFIG"],
  [0x11, "EV_NONHOST_INFO"],
  [0x12, "EV_OMIT_BOOT_DEVICE_EVENTS"],
  [EV_POST_CODE2, "EV_POST_CODE2"],
  [EV_EFI_VARIABLE_DRIVER_CONFIG, "EV_EFI_VARIABLE_DRIVER_CONFIG"],
  [EV_EFI_VARIABLE_BOOT, "EV_EFI_VARIABLE_BOOT"],
  [EV_EFI_BOOT_SERVICES_APPLICATION, "EV_EFI_BOOT_SERVICES_APPLICATION"],
  [EV_EFI_BOOT_SERVICES_DRIVER, "EV_EFI_BOOT_SERVICES_DRIVER"],
  [EV_EFI_RUNTIME_SERVICES_DRIVER, "EV_EFI_RUNTIME_SERVICES_DRIVER"],
  [EV_EFI_GPT_EVENT, "EV_EFI_GPT_EVENT"],
  [EV_EFI_ACTION, "EV_EFI_ACTION"],
  [EV_EFI_PLATFORM_FIRMWARE_BLOB, "EV_EFI_PLATFORM_FIRMWARE_BLOB"],
  [0x8000_0009, "EV_EFI_HANDOFF_TABLES"],
  [EV_EFI_PLATFORM_FIRMWARE_BLOB2, "EV_EFI_PLATFORM_FIRMWARE_BLOB2"],
  [0x8000_000b, "EV_EFI_HANDOFF_TABLES2"],
  [EV_EFI_VARIABLE_BOOT2, "EV_EFI_VARIABLE_BOOT2"],
  [EV_EFI_GPT_EVENT2, "EV_EFI_GPT_EVENT2"],
  [EV_EFI_HCRTM_EVENT, "EV_EFI_HCRTM_EVENT"],
  [EV_EFI_VARIABLE_AUTHORITY, "EV_EFI_VARIABLE_AUTHORITY"],
  [0x8000_00e1, "EV_EFI_SPDM_FIRMWARE_BLOB"],
  [0x8000_00e2, "EV_EFI_SPDM_FIRMWARE_CONFIG"],
  [0x8000_00e3, "EV_EFI_SPDM_DEVICE_POLICY"],
  [0x8000_00e4, "EV_EFI_SPDM_DEVICE_AUTHORITY"],
]);

/** UEFI_VARIABLE_DATA: VariableName (GUID) 0, UnicodeNameLength (u64, characters) 16, VariableDataLength (u64) 24, then both. */
export const VARIABLE_EVENT_HEADER_BYTES = 32;

/** UEFI_IMAGE_LOAD_EVENT: ImageLocationInMemory 0, ImageLengthInMemory 8, ImageLinkTimeAddress 16, LengthOfDevicePath 24, DevicePath 32. */
export const IMAGE_LOAD_EVENT_HEADER_BYTES = 32;

/** TCG_PCClientTaggedEvent: taggedEventID 0, taggedEventDataSize 4, then the data. */
export const TAGGED_EVENT_HEADER_BYTES = 8;

/** Registers of a PC's TPM. */
export const PCR_COUNT = 24;
/** Registers that start with all bits set: they belong to a dynamic root of trust (PC Client TPM Profile 1.05, table 3). */
export const FIRST_DYNAMIC_PCR = 17;
export const LAST_DYNAMIC_PCR = 22;

/** Data of EV_EFI_ACTION in PCR 4, section 10.4.4. */
export const CALLING_EFI_APPLICATION = "Calling EFI Application from Boot Option";
/** what EV_EFI_ACTION of PCR 5 measures when the system takes over */
export const EXIT_BOOT_SERVICES_INVOCATION = "Exit Boot Services Invocation";
export const EXIT_BOOT_SERVICES_SUCCEEDED = "Exit Boot Services Returned with Success";
export const RETURNING_FROM_EFI_APPLICATION = "Returning from EFI Application from Boot Option";

/** EFI device path nodes, UEFI 2.10 section 10.3: Type 0, SubType 1, Length 2. */
export const DEVICE_PATH_HEADER_BYTES = 4;
export const DEVICE_PATH_END = 0x7f;
export const DEVICE_PATH_MEDIA = 0x04;
export const MEDIA_HARD_DRIVE = 0x01;
export const MEDIA_FILE_PATH = 0x04;
export const MEDIA_FIRMWARE_FILE = 0x06;
export const MEDIA_FIRMWARE_VOLUME = 0x07;
/** HD(): PartitionNumber 4, PartitionStart 8, PartitionSize 16, PartitionSignature 24, MBRType 40, SignatureType 41. */
export const HARD_DRIVE_NODE_BYTES = 42;
