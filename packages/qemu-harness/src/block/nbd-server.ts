import type { Duplex } from "node:stream";
import {
  CLIENT_FLAGS_BYTES,
  COMMAND,
  COMMAND_FLAG,
  ERROR,
  EXPORT_PADDING_BYTES,
  GREETING_BYTES,
  GREETING_MAGIC,
  HANDSHAKE_FLAG,
  INFO,
  OPTION,
  OPTION_BYTES,
  OPTION_MAGIC,
  OPTION_REPLY,
  OPTION_REPLY_BYTES,
  OPTION_REPLY_MAGIC,
  REQUEST_BYTES,
  REQUEST_MAGIC,
  SIMPLE_REPLY_BYTES,
  SIMPLE_REPLY_MAGIC,
  TRANSMISSION_FLAG,
} from "../format/nbd.ts";

/** Unit of offsets and lengths, in `bytes`. */
export const SECTOR_BYTES = 512;
/** Most bytes that one request reads or writes; QEMU splits what its guest asks for. */
const MAX_TRANSFER_BYTES = 4 * 1024 * 1024;
const PREFERRED_TRANSFER_BYTES = 4096;
/** Most bytes of an option's data; names of exports have 4096 at most. */
const MAX_OPTION_BYTES = 8192;
const MAX_OPTIONS = 64;
/** Requests that are worked on at once; the stream is not read while there are more. */
const MAX_IN_FLIGHT = 32;
/** Replies that wait for the client to read them, in `bytes`; the stream is not read while there are more. */
const MAX_UNREAD_BYTES = 2 * MAX_TRANSFER_BYTES;

/** What a client asks of a disk; the range is within the disk and a whole number of sectors. */
export interface NbdRequest {
  readonly type: "read" | "write" | "write-zeroes" | "trim" | "flush";
  readonly offset: number;
  readonly length: number;
  /** whether the answer has to wait until this write is on stable storage */
  readonly fua: boolean;
  /** bytes of a write, the receiver's to keep; empty for other types */
  readonly data: Uint8Array;
  /** number of the piece of the stream that the request came with: what was answered before is known to the client */
  readonly piece: number;
}

/** Ends a request: an error of the protocol or 0, and the bytes of a read. */
export type NbdAnswer = (error: number, data?: Uint8Array) => void;

/** A disk to serve. */
export interface NbdExport {
  readonly sizeBytes: number;
  /** Works on a request; what is never answered stays in flight. */
  readonly request: (request: NbdRequest, answer: NbdAnswer) => void;
}

const NOTHING = new Uint8Array();

/** Thrown inside a session for what no client sends; ends the connection. */
class Violation extends Error {}

/**
 * Serves a disk to one client, until the stream ends or the client says what no client says.
 *
 * @see NBD protocol, "Fixed newstyle negotiation" and "Transmission phase"
 */
export class NbdSession {
  readonly #stream: Duplex;
  readonly #export: NbdExport;
  #piece = 0;
  #options = 0;
  #inFlight = 0;
  #noZeroes = false;
  #deaf = false;
  /** what is waited for: bytes, and what to do with them */
  #wanted: Buffer = Buffer.alloc(0);
  #got = 0;
  /** what has come and is not looked at yet */
  #rest: Uint8Array = new Uint8Array();
  #isWorking = false;
  #then: (bytes: Buffer) => void = () => {};

  constructor(stream: Duplex, target: NbdExport) {
    this.#stream = stream;
    this.#export = target;
    this.#expect(CLIENT_FLAGS_BYTES, (bytes) => this.#clientFlags(bytes));
    stream.on("data", (chunk: Uint8Array) => this.#receive(chunk));
    stream.on("drain", () => this.#work());
    stream.on("error", () => {});
    stream.on("end", () => stream.destroy());
    const greeting = Buffer.alloc(GREETING_BYTES);
    greeting.writeBigUInt64BE(GREETING_MAGIC, 0);
    greeting.writeBigUInt64BE(OPTION_MAGIC, 8);
    greeting.writeUInt16BE(HANDSHAKE_FLAG.fixedNewstyle | HANDSHAKE_FLAG.noZeroes, 16);
    stream.write(greeting);
  }

  /** Number of the piece of the stream that came last. */
  get piece(): number {
    return this.#piece;
  }

  /** From now on nothing is heard and nothing said. */
  silence(): void {
    this.#deaf = true;
  }

  #expect(length: number, then: (bytes: Buffer) => void): void {
    this.#wanted = Buffer.allocUnsafe(length);
    this.#got = 0;
    this.#then = then;
  }

  #receive(chunk: Uint8Array): void {
    this.#piece += 1;
    // A paused stream gives nothing, so there is a rest only where one event gave several chunks.
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    this.#work();
  }

  /** Takes requests out of what has come, as long as the client reads what is answered. */
  #work(): void {
    if (this.#isWorking) return;
    this.#isWorking = true;
    try {
      while (!this.#deaf && !this.#isBusy) {
        const count = Math.min(this.#wanted.length - this.#got, this.#rest.length);
        this.#wanted.set(this.#rest.subarray(0, count), this.#got);
        this.#got += count;
        this.#rest = this.#rest.subarray(count);
        if (this.#got < this.#wanted.length) break;
        this.#then(this.#wanted);
      }
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      this.#deaf = true;
      this.#stream.destroy();
    } finally {
      this.#isWorking = false;
    }
    if (this.#isBusy) this.#stream.pause();
    else if (this.#stream.isPaused()) this.#stream.resume();
  }

  get #isBusy(): boolean {
    return this.#inFlight > MAX_IN_FLIGHT || this.#stream.writableLength > MAX_UNREAD_BYTES;
  }

  #clientFlags(bytes: Buffer): void {
    const flags = bytes.readUInt32BE(0);
    if ((flags & ~(HANDSHAKE_FLAG.fixedNewstyle | HANDSHAKE_FLAG.noZeroes)) !== 0) throw new Violation();
    this.#noZeroes = (flags & HANDSHAKE_FLAG.noZeroes) !== 0;
    this.#nextOption();
  }

  #nextOption(): void {
    this.#expect(OPTION_BYTES, (header) => {
      const [option, length] = [header.readUInt32BE(8), header.readUInt32BE(12)];
      this.#options += 1;
      if (header.readBigUInt64BE(0) !== OPTION_MAGIC || length > MAX_OPTION_BYTES || this.#options > MAX_OPTIONS) {
        throw new Violation();
      }
      this.#expect(length, (data) => this.#option(option, data));
    });
  }

  #option(option: number, data: Buffer): void {
    switch (option) {
      case OPTION.exportName:
        this.#exportName();
        return;
      case OPTION.abort:
        this.#optionReply(option, OPTION_REPLY.ack);
        this.#deaf = true;
        this.#stream.end();
        return;
      case OPTION.list:
        if (data.length > 0) {
          this.#optionReply(option, OPTION_REPLY.invalid);
        } else {
          // One export, whose name is empty.
          this.#optionReply(option, OPTION_REPLY.server, Buffer.alloc(4));
          this.#optionReply(option, OPTION_REPLY.ack);
        }
        break;
      case OPTION.info:
      case OPTION.go:
        if (!isInfoRequest(data)) {
          this.#optionReply(option, OPTION_REPLY.invalid);
          break;
        }
        this.#optionReply(option, OPTION_REPLY.info, this.#exportInfo());
        this.#optionReply(option, OPTION_REPLY.info, blockSizeInfo());
        this.#optionReply(option, OPTION_REPLY.ack);
        if (option === OPTION.info) break;
        this.#nextRequest();
        return;
      default:
        this.#optionReply(option, OPTION_REPLY.unsupported);
    }
    this.#nextOption();
  }

  #exportName(): void {
    const info = this.#exportInfo().subarray(2);
    this.#stream.write(this.#noZeroes ? info : Buffer.concat([info, Buffer.alloc(EXPORT_PADDING_BYTES)]));
    this.#nextRequest();
  }

  #exportInfo(): Buffer {
    const info = Buffer.alloc(12);
    const { hasFlags, sendFlush, sendFua, sendTrim, sendWriteZeroes } = TRANSMISSION_FLAG;
    info.writeUInt16BE(INFO.export, 0);
    info.writeBigUInt64BE(BigInt(this.#export.sizeBytes), 2);
    info.writeUInt16BE(hasFlags | sendFlush | sendFua | sendTrim | sendWriteZeroes, 10);
    return info;
  }

  #optionReply(option: number, type: number, data: Uint8Array = new Uint8Array()): void {
    const header = Buffer.alloc(OPTION_REPLY_BYTES);
    header.writeBigUInt64BE(OPTION_REPLY_MAGIC, 0);
    header.writeUInt32BE(option, 8);
    header.writeUInt32BE(type, 12);
    header.writeUInt32BE(data.length, 16);
    this.#stream.write(Buffer.concat([header, data]));
  }

  #nextRequest(): void {
    this.#expect(REQUEST_BYTES, (header) => this.#request(header));
  }

  #request(header: Buffer): void {
    if (header.readUInt32BE(0) !== REQUEST_MAGIC) throw new Violation();
    const [flags, type, cookie] = [header.readUInt16BE(4), header.readUInt16BE(6), header.readBigUInt64BE(8)];
    const [offset, length] = [header.readBigUInt64BE(16), header.readUInt32BE(24)];
    const { piece } = this;
    const fua = (flags & COMMAND_FLAG.fua) !== 0;
    const answer = this.#answerTo(cookie, type === COMMAND.read ? length : 0);
    switch (type) {
      case COMMAND.disconnect:
        this.#deaf = true;
        this.#stream.end();
        return;
      case COMMAND.write:
        // What would follow is too much to be thrown away.
        if (length > MAX_TRANSFER_BYTES) throw new Violation();
        this.#expect(length, (data) => this.#run({ type: "write", offset, length, fua, data, piece }, answer));
        return;
      case COMMAND.read:
        this.#run({ type: "read", offset, length, fua, data: NOTHING, piece }, answer);
        return;
      case COMMAND.trim:
        this.#run({ type: "trim", offset, length, fua, data: NOTHING, piece }, answer);
        return;
      case COMMAND.writeZeroes:
        this.#run({ type: "write-zeroes", offset, length, fua, data: NOTHING, piece }, answer);
        return;
      case COMMAND.flush:
        this.#nextRequest();
        this.#export.request({ type: "flush", offset: 0, length: 0, fua, data: NOTHING, piece }, answer);
        return;
      default:
        this.#nextRequest();
        answer(ERROR.invalid);
    }
  }

  /** Passes on a request whose range is one of the disk's. */
  #run(request: Omit<NbdRequest, "offset"> & { readonly offset: bigint }, answer: NbdAnswer): void {
    this.#nextRequest();
    const { type, offset, length } = request;
    const sector = BigInt(SECTOR_BYTES);
    const isSectors = offset % sector === 0n && length % SECTOR_BYTES === 0 && length > 0;
    if (!isSectors || (type === "read" && length > MAX_TRANSFER_BYTES)) answer(ERROR.invalid);
    else if (offset + BigInt(length) <= BigInt(this.#export.sizeBytes)) {
      this.#export.request({ ...request, offset: Number(offset) }, answer);
    } else answer(type === "read" ? ERROR.invalid : ERROR.noSpace);
  }

  #answerTo(cookie: bigint, length: number): NbdAnswer {
    this.#inFlight += 1;
    return (error, data) => {
      this.#inFlight -= 1;
      if (this.#deaf || this.#stream.destroyed) return;
      if (error === ERROR.none && length !== (data?.length ?? 0))
        throw new Error("bug: a read has to answer all bytes");
      const header = Buffer.alloc(SIMPLE_REPLY_BYTES);
      header.writeUInt32BE(SIMPLE_REPLY_MAGIC, 0);
      header.writeUInt32BE(error, 4);
      header.writeBigUInt64BE(cookie, 8);
      this.#stream.cork();
      this.#stream.write(header);
      if (error === ERROR.none && data !== undefined) this.#stream.write(data);
      this.#stream.uncork();
      this.#work();
    };
  }
}

/** Whether the data of `INFO` or `GO` is a name, and a list of what is asked for that ends where the data does. */
function isInfoRequest(data: Buffer): boolean {
  if (data.length < 6) return false;
  const name = data.readUInt32BE(0);
  if (name > data.length - 6) return false;
  return data.length === 6 + name + 2 * data.readUInt16BE(4 + name);
}

function blockSizeInfo(): Buffer {
  const info = Buffer.alloc(14);
  info.writeUInt16BE(INFO.blockSize, 0);
  info.writeUInt32BE(SECTOR_BYTES, 2);
  info.writeUInt32BE(PREFERRED_TRANSFER_BYTES, 6);
  info.writeUInt32BE(MAX_TRANSFER_BYTES, 10);
  return info;
}
