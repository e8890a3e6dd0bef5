import { createHash } from "node:crypto";
import { type Bytes, eachChunk, sizeOf } from "../bytes/byte-source.ts";
import { extendPcr, PCR_BYTES, type PcrBank } from "./register.ts";

/** One thing that is expected to be measured. */
export interface PcrMeasurement {
  /** name of the event's type: `EV_SEPARATOR` */
  readonly typeName: string;
  /** what the register is extended with */
  readonly digest: Uint8Array;
  /** what is measured, for people: a file, a variable, a section */
  readonly source: string;
}

/** What a register is expected to hold, and how it gets there. */
export interface PcrPrediction {
  readonly pcr: number;
  readonly bank: PcrBank;
  /** value after all measurements */
  readonly value: Uint8Array;
  /** measurements in order */
  readonly measurements: readonly PcrMeasurement[];
}

/** A measurement whose digest is that of some data. */
export function measurementOf(typeName: string, bank: PcrBank, data: Bytes, source: string): PcrMeasurement {
  const hash = createHash(bank);
  eachChunk(data, 0, sizeOf(data), (chunk) => hash.update(chunk));
  return { typeName, digest: new Uint8Array(hash.digest()), source };
}

/** Extends a register that starts with zeros. */
export function predict(pcr: number, bank: PcrBank, measurements: readonly PcrMeasurement[]): PcrPrediction {
  let value: Uint8Array = new Uint8Array(PCR_BYTES[bank]);
  for (const { digest } of measurements) value = extendPcr(bank, value, digest);
  return { pcr, bank, value, measurements };
}
