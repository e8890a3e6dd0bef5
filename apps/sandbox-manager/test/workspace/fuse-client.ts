import { Duplex, PassThrough } from "node:stream";
import {
  ENTRY_SIZE,
  OPCODE,
  REPLY_HEADER_SIZE,
  REQUEST_HEADER_SIZE,
  TELL,
  TOLD,
} from "../../src/workspace/format/fuse.ts";

/** Two ends of one stream of bytes in both directions. */
export function streamPair(): [Duplex, Duplex] {
  const [there, back] = [new PassThrough(), new PassThrough()];
  return [Duplex.from({ readable: there, writable: back }), Duplex.from({ readable: back, writable: there })];
}

/** What a request is answered with. */
export interface Reply {
  /** number of errno(3), 0 for success */
  readonly errno: number;
  readonly body: Buffer;
}

/** A request, as a kernel would write it. */
export function encodeRequest(opcode: number, nodeId: number | bigint, body: Buffer, unique = 1n): Buffer {
  const frame = Buffer.alloc(REQUEST_HEADER_SIZE + body.length);
  frame.writeUInt32LE(frame.length, 0);
  frame.writeUInt32LE(opcode, 4);
  frame.writeBigUInt64LE(unique, 8);
  frame.writeBigUInt64LE(BigInt(nodeId), 16);
  body.copy(frame, REQUEST_HEADER_SIZE);
  return frame;
}

/** Numbers of 64 bits, and with `[n]` of 32. */
export function fields(...values: (number | bigint | [number])[]): Buffer {
  return Buffer.concat(
    values.map((value) => {
      const bytes = Buffer.alloc(Array.isArray(value) ? 4 : 8);
      if (Array.isArray(value)) bytes.writeUInt32LE(value[0] >>> 0);
      else bytes.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value)));
      return bytes;
    }),
  );
}

/** A name with the NUL at its end. */
export function text(...names: string[]): Buffer {
  return Buffer.from(names.map((name) => `${name}\0`).join(""), "latin1");
}

/** Talks to a server as a guest does. */
export class FuseClient {
  /** notices in order of their arrival: code and body */
  readonly notices: { code: number; body: Buffer }[] = [];
  readonly #stream: Duplex;
  readonly #waiting = new Map<bigint, (reply: Reply) => void>();
  #unique = 2n;
  #received = Buffer.alloc(0);

  constructor(stream: Duplex) {
    this.#stream = stream;
    stream.on("data", (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk]);
      while (this.#received.length >= REPLY_HEADER_SIZE && this.#received.length >= this.#received.readUInt32LE(0)) {
        const length = this.#received.readUInt32LE(0);
        this.#take(this.#received.subarray(0, length));
        this.#received = this.#received.subarray(length);
      }
    });
  }

  /** Sends bytes as they are. */
  send(bytes: Buffer): void {
    this.#stream.write(bytes);
  }

  /** Asks, and waits for the reply. */
  ask(opcode: number, nodeId: number | bigint, body: Buffer = Buffer.alloc(0)): Promise<Reply> {
    this.#unique += 2n;
    const unique = this.#unique;
    return new Promise((resolve) => {
      this.#waiting.set(unique, resolve);
      this.#stream.write(encodeRequest(opcode, nodeId, body, unique));
    });
  }

  /** The same; what is refused is an error. */
  async do(opcode: number, nodeId: number | bigint, body: Buffer = Buffer.alloc(0)): Promise<Buffer> {
    const reply = await this.ask(opcode, nodeId, body);
    if (reply.errno !== 0) throw new Error(`errno ${reply.errno}`);
    return reply.body;
  }

  /** Looks up a path from the root on, and returns the node's number; 0 when it does not exist. */
  async lookup(path: string, from = 1): Promise<number> {
    let node = from;
    for (const name of path.split("/")) {
      node = nodeOf(await this.do(OPCODE.lookup, node, text(name)));
      if (node === 0) return 0;
    }
    return node;
  }

  /** All of a file's contents, up to 100,000 bytes. */
  async read(node: number): Promise<string> {
    const size = 100_000;
    return (await this.do(OPCODE.read, node, fields(0, 0, [size], [0], 0, [0], [0]))).toString("latin1");
  }

  /** Writes at an offset. */
  write(node: number, offset: number, data: string, flags = 0): Promise<Reply> {
    const bytes = Buffer.from(data, "latin1");
    return this.ask(
      OPCODE.write,
      node,
      Buffer.concat([fields(0, offset, [bytes.length], [0], 0, [flags], [0]), bytes]),
    );
  }

  /** Makes a file, and returns its node's number. */
  async create(name: string, parent = 1, mode = 0o644): Promise<number> {
    return nodeOf(await this.do(OPCODE.create, parent, Buffer.concat([fields([0o302], [mode], [0], [0]), text(name)])));
  }

  #take(frame: Buffer): void {
    const unique = frame.readBigUInt64LE(8);
    const code = frame.readInt32LE(4);
    const body = Buffer.from(frame.subarray(REPLY_HEADER_SIZE));
    if (unique !== 0n) {
      this.#waiting.get(unique)?.({ errno: Math.abs(code), body });
      this.#waiting.delete(unique);
    } else if (code === TELL.pause) {
      this.#stream.write(encodeRequest(TOLD.paused, 0, Buffer.alloc(0), 0n));
    } else {
      this.notices.push({ code, body });
      if (code !== TELL.resume) this.#stream.write(encodeRequest(TOLD.noticed, 0, Buffer.alloc(0), 1n));
    }
  }
}

/** Number of the node in `struct fuse_entry_out`. */
export function nodeOf(entry: Buffer): number {
  return Number(entry.readBigUInt64LE(0));
}

/** Fields of `struct fuse_attr`. */
export function attrOf(
  body: Buffer,
  offset: number,
): { size: number; mode: number; nlink: number; uid: number; gid: number; mtime: number } {
  return {
    size: Number(body.readBigUInt64LE(offset + 8)),
    mtime: Number(body.readBigInt64LE(offset + 32)),
    mode: body.readUInt32LE(offset + 60),
    nlink: body.readUInt32LE(offset + 64),
    uid: body.readUInt32LE(offset + 68),
    gid: body.readUInt32LE(offset + 72),
  };
}

/** Where `struct fuse_attr` is in an entry, and in the reply to GETATTR. */
export const ATTR_IN_ENTRY = 40;
export const ATTR_IN_REPLY = 16;

/** Names and nodes of a READDIRPLUS reply, and the cookie of the last. */
export function entriesOf(body: Buffer): { names: { name: string; node: number }[]; cookie: number } {
  const names: { name: string; node: number }[] = [];
  let cookie = 0;
  for (let at = 0; at < body.length; ) {
    const length = body.readUInt32LE(at + ENTRY_SIZE + 16);
    const start = at + ENTRY_SIZE + 24;
    cookie = Number(body.readBigUInt64LE(at + ENTRY_SIZE + 8));
    names.push({ name: body.toString("latin1", start, start + length), node: nodeOf(body.subarray(at)) });
    at = start + length + ((8 - ((start + length - at) % 8)) % 8);
  }
  return { names, cookie };
}
