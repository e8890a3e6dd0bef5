/** Most bytes of frames that a capture keeps; the first ones. */
export const DEFAULT_MAX_CAPTURE_BYTES = 64 * 1024 * 1024;

const MAGIC = 0xa1b2_c3d4;
const LINK_TYPE_ETHERNET = 1;
const GLOBAL_HEADER_BYTES = 24;
const RECORD_HEADER_BYTES = 16;
const SNAP_LENGTH = 262_144;

/** Frames as they come, in a file that Wireshark and tcpdump read. */
export class PcapRecorder {
  readonly #records: Uint8Array[] = [globalHeader()];
  readonly #maxBytes: number;
  #bytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** @param timeMs - Host time in `milliseconds` since 1970. */
  add(frame: Uint8Array, timeMs: number): void {
    if (this.#bytes + frame.length > this.#maxBytes) return;
    this.#bytes += frame.length;
    const header = Buffer.alloc(RECORD_HEADER_BYTES);
    header.writeUInt32LE(Math.floor(timeMs / 1000), 0);
    header.writeUInt32LE(Math.floor((timeMs % 1000) * 1000), 4);
    header.writeUInt32LE(frame.length, 8);
    header.writeUInt32LE(frame.length, 12);
    this.#records.push(header, Uint8Array.from(frame));
  }

  /** @see IETF draft-ietf-opsawg-pcap, sections 4 and 5 */
  encode(): Uint8Array {
    return Buffer.concat(this.#records);
  }
}

function globalHeader(): Uint8Array {
  const header = Buffer.alloc(GLOBAL_HEADER_BYTES);
  header.writeUInt32LE(MAGIC, 0);
  header.writeUInt16LE(2, 4);
  header.writeUInt16LE(4, 6);
  header.writeUInt32LE(SNAP_LENGTH, 16);
  header.writeUInt32LE(LINK_TYPE_ETHERNET, 20);
  return header;
}
