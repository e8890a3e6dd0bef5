import { createHash } from "node:crypto";
import { encodeGuid, type PcrBank } from "../../src/index.ts";
import { bytes } from "./pe.ts";

const ALGORITHM_IDS: Record<PcrBank, number> = { sha1: 4, sha256: 11, sha384: 12, sha512: 13 };
const EV_NO_ACTION = 3;

/** An event to put into a log; what is measured is the data unless something else is given. */
export interface TestEvent {
  readonly pcr: number;
  readonly type: number;
  readonly data: Uint8Array;
  readonly measured?: Uint8Array;
}

/** A crypto-agile log, made from the specification without the code under test. */
export function agileLog(events: readonly TestEvent[], banks: readonly PcrBank[] = ["sha1", "sha256"]): Uint8Array {
  const specId = Buffer.concat([
    bytes("Spec ID Event03\0"),
    Buffer.from([0, 0, 0, 0, 0, 2, 0, 2]), // platform class, version 2.0, errata, UINTN of 8 bytes
    u32(banks.length),
    ...banks.map((bank) => Buffer.concat([u16(ALGORITHM_IDS[bank]), u16(createHash(bank).digest().length)])),
    Buffer.from([0]),
  ]);
  return new Uint8Array(Buffer.concat([header(specId), ...events.map((event) => agileEvent(event, banks))]));
}

/** A log of TPM 1.2. */
export function sha1Log(events: readonly TestEvent[]): Uint8Array {
  const encoded = events.map(({ pcr, type, data, measured = data }) =>
    Buffer.concat([u32(pcr), u32(type), createHash("sha1").update(measured).digest(), u32(data.length), data]),
  );
  return new Uint8Array(Buffer.concat(encoded));
}

/** UEFI_VARIABLE_DATA */
export function variableData(name: string, guid: string, data: Uint8Array): Uint8Array {
  const text = Buffer.from(name, "utf16le");
  return new Uint8Array(Buffer.concat([encodeGuid(guid), u64(name.length), u64(data.length), text, data]));
}

/** UEFI_IMAGE_LOAD_EVENT of a file on a GPT partition. */
export function imageLoadData(file: string, sizeBytes = 4096): Uint8Array {
  const partition = encodeGuid("11111111-2222-4333-8444-555555555555");
  const disk = Buffer.concat([
    Buffer.from([4, 1, 42, 0]),
    u32(1),
    u64(2048),
    u64(8192),
    partition,
    Buffer.from([2, 2]),
  ]);
  const name = Buffer.from(`${file}\0`, "utf16le");
  const path = Buffer.concat([
    // PciRoot(0)/Pci(2,0), which a person does not need
    Buffer.from("02010c00d041030a00000000010106000002", "hex"),
    disk,
    Buffer.from([4, 4]),
    u16(4 + name.length),
    name,
    Buffer.from([0x7f, 0xff, 4, 0]),
  ]);
  return new Uint8Array(Buffer.concat([u64(0x7e00_0000), u64(sizeBytes), u64(0), u64(path.length), path]));
}

function header(data: Uint8Array): Buffer {
  return Buffer.concat([u32(0), u32(EV_NO_ACTION), Buffer.alloc(20), u32(data.length), data]);
}

function agileEvent({ pcr, type, data, measured = data }: TestEvent, banks: readonly PcrBank[]): Buffer {
  const digests = banks.flatMap((bank) => [u16(ALGORITHM_IDS[bank]), createHash(bank).update(measured).digest()]);
  return Buffer.concat([u32(pcr), u32(type), u32(banks.length), ...digests, u32(data.length), data]);
}

function u16(value: number): Buffer {
  const octets = Buffer.alloc(2);
  octets.writeUInt16LE(value);
  return octets;
}

function u32(value: number): Buffer {
  const octets = Buffer.alloc(4);
  octets.writeUInt32LE(value);
  return octets;
}

function u64(value: number): Buffer {
  const octets = Buffer.alloc(8);
  octets.writeBigUInt64LE(BigInt(value));
  return octets;
}
