import { type Duplex, duplexPair } from "node:stream";
import type { NodeDisk } from "../src/block/node-disk.ts";
import type { PowerCutOptions } from "../src/index.ts";

export const READ = 0;
export const WRITE = 1;
export const FLUSH = 3;
export const TRIM = 4;
export const WRITE_ZEROES = 6;
export const FUA = 1;

const NOTHING: Uint8Array = new Uint8Array();

/** What a request says beside its type. */
interface Fields {
  readonly sector: number;
  readonly sectors: number;
  readonly flags: number;
  readonly data: Uint8Array;
}

/** What a client got back. */
export interface Reply {
  readonly error: number;
  readonly data: Buffer;
}

/** A client of the NBD protocol that knows nothing of the server's code, and keeps to the protocol only as it likes. */
export class NbdClient {
  readonly stream: Duplex;
  /** what the machine was told when power failed */
  readonly cuts: PowerCutOptions[] = [];
  #received: Buffer = Buffer.alloc(0);
  #wake: () => void = () => {};
  #cookie = 0n;
  readonly #replies = new Map<bigint, { length: number; resolve: (reply: Reply) => void }>();

  constructor(disk: NodeDisk) {
    const [ours, theirs] = duplexPair();
    this.stream = ours;
    disk.attach(theirs, (how) => {
      this.cuts.push(how);
      disk.losePower(how);
      theirs.destroy();
    });
    ours.on("data", (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk]);
      this.#wake();
    });
  }

  async take(length: number): Promise<Buffer> {
    while (this.#received.length < length) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const bytes = this.#received.subarray(0, length);
    this.#received = this.#received.subarray(length);
    return bytes;
  }

  option(option: number, data: Uint8Array = new Uint8Array()): void {
    const header = Buffer.from(`49484156454f5054${"0".repeat(16)}`, "hex");
    header.writeUInt32BE(option, 8);
    header.writeUInt32BE(data.length, 12);
    this.stream.write(Buffer.concat([header, data]));
  }

  /** The type and data of the next reply to an option. */
  async optionReply(): Promise<{ type: number; data: Buffer }> {
    const header = await this.take(20);
    return { type: header.readUInt32BE(12), data: await this.take(header.readUInt32BE(16)) };
  }

  /** Everything before the first request; returns the size of the disk and its flags. */
  async connect(): Promise<{ sizeBytes: bigint; flags: number }> {
    await this.take(18);
    this.stream.write(Buffer.from("00000003", "hex"));
    this.option(7, Buffer.alloc(6));
    const { data } = await this.optionReply();
    await this.optionReply();
    await this.optionReply();
    void this.#listen();
    return { sizeBytes: data.readBigUInt64BE(2), flags: data.readUInt16BE(10) };
  }

  /** The bytes of a request, to be sent with others at once. */
  encode(type: number, { sector = 0, sectors = 0, flags = 0, data = NOTHING }: Partial<Fields> = {}): Buffer {
    const header = Buffer.alloc(28);
    header.writeUInt32BE(0x2560_9513, 0);
    header.writeUInt16BE(flags, 4);
    header.writeUInt16BE(type, 6);
    header.writeBigUInt64BE(this.#cookie, 8);
    header.writeBigUInt64BE(BigInt(sector) * 512n, 16);
    header.writeUInt32BE(data.length || sectors * 512, 24);
    return Buffer.concat([header, data]);
  }

  request(type: number, options: Partial<Fields> = {}): Promise<Reply> {
    const reply = this.expect(type === READ ? (options.sectors ?? 0) * 512 : 0);
    this.stream.write(this.encode(type, options));
    return reply;
  }

  /** Waits for the reply to what {@link encode} makes next. */
  expect(length = 0): Promise<Reply> {
    this.#cookie += 1n;
    const cookie = this.#cookie;
    return new Promise((resolve) => this.#replies.set(cookie, { length, resolve }));
  }

  write(sector: number, text: string, flags = 0): Promise<Reply> {
    return this.request(WRITE, { sector, flags, data: content(text) });
  }

  async #listen(): Promise<void> {
    for (;;) {
      const header = await this.take(16);
      const error = header.readUInt32BE(4);
      const cookie = header.readBigUInt64BE(8);
      const waiting = this.#replies.get(cookie);
      this.#replies.delete(cookie);
      waiting?.resolve({ error, data: error === 0 ? await this.take(waiting.length) : Buffer.alloc(0) });
    }
  }
}

/** One sector per letter, filled with it. */
export function content(text: string): Buffer {
  return Buffer.concat([...text].map((letter) => Buffer.alloc(512, letter)));
}

/** The first letter of each sector, a dot where it is zero; throws where a sector is not one letter. */
export async function letters(
  disk: { read: (offset: number, length: number) => Promise<Uint8Array> },
  sector: number,
  sectors: number,
): Promise<string> {
  const bytes = Buffer.from(await disk.read(sector * 512, sectors * 512));
  return Array.from({ length: sectors }, (_, index) => {
    const part = bytes.subarray(index * 512, (index + 1) * 512);
    if (!part.every((byte) => byte === part[0])) throw new Error(`sector ${sector + index} is torn inside`);
    return part[0] === 0 ? "." : String.fromCharCode(part[0] ?? 0);
  }).join("");
}
