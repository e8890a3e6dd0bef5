import { randomBytes } from "node:crypto";
import { Duplex } from "node:stream";
import { SandboxError } from "../errors.ts";
import { TCP_FLAG, type TcpSegment } from "./format/tcp.ts";

/** Most segments that wait to be read. */
const MAX_PIECES = 1024;
/** Most bytes from a guest that wait for whoever reads; what a guest is told that it may send. */
export const RECEIVE_BYTES = 128 * 1024;
/** Most bytes for a guest that wait until it has acknowledged them, and one write more. */
export const SEND_BYTES = 128 * 1024;
/** So that {@link RECEIVE_BYTES} fit into the window of a header. */
const WINDOW_SHIFT = 2;
/** Smaller pieces are put together, in blocks of so many bytes: a host may write byte by byte what nobody takes. */
const BLOCK_BYTES = 16 * 1024;
const READ_HIGH_WATER_MARK = 16 * 1024;
/** A window that has grown by so much is told at once. */
const WINDOW_STEP = RECEIVE_BYTES / 4;
/** What somebody takes who does not say. @see RFC 9293, section 3.7.1 */
const DEFAULT_SEGMENT_BYTES = 536;
const MIN_SEGMENT_BYTES = 64;
/** Nothing is lost between QEMU and here but under great load, so this is a net and not part of the traffic. */
const RETRY_MS = 1000;
const MAX_RETRY_MS = 30_000;
const MAX_RETRIES = 8;
const MAX_HANDSHAKE_RETRIES = 3;
const DUPLICATES_OF_LOSS = 3;

/** What a connection sends, without who it is from and for. */
export type TcpReply = Omit<TcpSegment, "sourcePort" | "destinationPort">;

/** Where a connection's segments go. */
export interface TcpLink {
  /** largest payload of a segment in `bytes` */
  readonly maxSegmentBytes: number;
  readonly send: (segment: TcpReply) => void;
  /** Whether more may be sent now; {@link TcpStream.proceed} is called when it may again. */
  readonly isReady: () => boolean;
}

/** How far one sequence number is after another. @see RFC 9293, section 3.4 */
function after(one: number, other: number): number {
  return (one - other) | 0;
}

/**
 * One end of a TCP connection, as a stream. What is not read keeps the other end from sending, what the other end does not
 * take is not written. Segments that overtake others are dropped and come again.
 *
 * Emits `connect` when the other end has answered. Destroyed before its end, it resets the connection.
 *
 * @see RFC 9293, section 3.10; RFC 5961, sections 3 to 5
 */
export class TcpStream extends Duplex {
  readonly #link: TcpLink;
  /** sequence numbers: the oldest that is not acknowledged, the next one, and the one after the last that was ever sent */
  #unacknowledged: number;
  #next: number;
  #newest: number;
  /** bytes from {@link #unacknowledged} on */
  #queue: Buffer[] = [];
  #queued = 0;
  /** where small pieces are put together, and how much of it is in use */
  #block: Buffer = Buffer.alloc(0);
  #blockUsed = 0;
  /** how many segments wait to be read, or more */
  #pieces = 0;
  #isFinal = false;
  #isFinSent = false;
  #isFinAcknowledged = false;
  #hasSyn = true;
  /** what the other end takes, and the segment that has said so */
  #window = 0;
  #windowSequence = 0;
  #windowAcknowledgment = 0;
  #windowShift = 0;
  /** whether both ends shift */
  #isScaled = true;
  #segmentBytes = DEFAULT_SEGMENT_BYTES;
  /** the next sequence number of the other end; undefined until it is known */
  #expected: number | undefined;
  #isFinReceived = false;
  #toldWindow = 0;
  #duplicates = 0;
  #retries = 0;
  #timer: NodeJS.Timeout | undefined;
  #onWritten: (() => void) | undefined;
  #onFinished: (() => void) | undefined;

  /** @param syn - That of the other end; without it, this one begins. */
  constructor(link: TcpLink, syn?: TcpSegment) {
    super({ allowHalfOpen: true, readableHighWaterMark: READ_HIGH_WATER_MARK });
    this.#link = link;
    this.#unacknowledged = randomBytes(4).readUInt32BE();
    this.#next = this.#unacknowledged;
    this.#newest = this.#next;
    if (syn !== undefined) this.#begin(syn);
    this.#sendSyn();
  }

  /** Whether the other end has answered. */
  get isConnected(): boolean {
    return !this.#hasSyn;
  }

  /** Takes a segment of the other end. */
  receive(segment: TcpSegment): void {
    if (this.destroyed) return;
    if (this.#expected === undefined) {
      this.#answered(segment);
      return;
    }
    const { flags, sequence } = segment;
    const offset = after(sequence, this.#expected);
    if ((flags & TCP_FLAG.rst) !== 0) {
      // Who has forgotten a connection that is over on both sides says so when it is asked for the last word again.
      if (offset === 0 && this.#isFinReceived && this.#isFinSent && this.#queued === 0) this.#finish();
      else if (offset === 0) this.#fail("reset by the guest");
      else if (offset > 0 && offset < RECEIVE_BYTES) this.#acknowledge();
      return;
    }
    if ((flags & TCP_FLAG.syn) !== 0) {
      // The first one again: its answer was lost. Any other is a question whether this connection is still meant.
      if (this.#hasSyn && offset === -1) this.#sendSyn();
      else this.#acknowledge();
      return;
    }
    if ((flags & TCP_FLAG.ack) === 0) return;
    const length = segment.payload.length + ((flags & TCP_FLAG.fin) === 0 ? 0 : 1);
    if (offset > RECEIVE_BYTES || after(sequence + length, this.#expected) < -RECEIVE_BYTES) {
      this.#acknowledge();
      return;
    }
    if (!this.#acknowledged(segment)) return;
    if (length > 0) this.#take(segment, offset);
    else if (offset < 0) this.#acknowledge();
    this.proceed();
  }

  /** Sends whatever may be sent. */
  proceed(): void {
    if (this.#hasSyn || this.destroyed) return;
    while (this.#link.isReady()) {
      const inFlight = after(this.#next, this.#unacknowledged);
      const unsent = this.#queued - inFlight;
      if (unsent > 0) {
        const length = Math.min(unsent, this.#segmentBytes, this.#window - inFlight);
        // Small segments only when nothing else is on its way, or nothing is left.
        if (length <= 0 || (length < this.#segmentBytes && length < unsent && inFlight > 0)) break;
        this.#sendData(inFlight, length);
      } else if (this.#isFinal && !this.#isFinSent) {
        this.#isFinSent = true;
        this.#send(TCP_FLAG.fin | TCP_FLAG.ack, this.#next);
        this.#advance(1);
      } else break;
    }
    this.#keepTime();
  }

  override _read(): void {
    if (this.#expected === undefined || this.#hasSyn || this.#isFinReceived) return;
    if (this.#room() - this.#toldWindow >= WINDOW_STEP) this.#acknowledge();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#append(chunk);
    this.#queued += chunk.length;
    this.#onWritten = done;
    this.#admit();
    this.proceed();
  }

  override _final(done: () => void): void {
    this.#isFinal = true;
    // A connection is over when the other end knows, and not when it has been told.
    this.#onFinished = done;
    this.proceed();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    clearTimeout(this.#timer);
    const isOver = this.#isFinReceived && this.#isFinAcknowledged;
    if (!isOver) {
      const acknowledgment = this.#expected ?? 0;
      this.#link.send({ ...this.#reply(TCP_FLAG.rst | TCP_FLAG.ack, this.#next), acknowledgment });
    }
    this.#queue = [];
    done(error);
  }

  #append(chunk: Buffer): void {
    if (chunk.length === 0) return;
    if (chunk.length >= BLOCK_BYTES) {
      this.#queue.push(chunk);
      return;
    }
    if (this.#block.length - this.#blockUsed < chunk.length) {
      this.#block = Buffer.allocUnsafeSlow(BLOCK_BYTES);
      this.#blockUsed = 0;
    }
    const from = this.#blockUsed;
    this.#blockUsed += chunk.copy(this.#block, from);
    const last = this.#queue.at(-1);
    const isBefore = last?.buffer === this.#block.buffer && last.byteOffset + last.length === from;
    if (isBefore) this.#queue[this.#queue.length - 1] = this.#block.subarray(last.byteOffset, this.#blockUsed);
    else this.#queue.push(this.#block.subarray(from, this.#blockUsed));
  }

  #begin(syn: TcpSegment): void {
    this.#expected = (syn.sequence + 1) >>> 0;
    this.#segmentBytes = Math.min(
      Math.max(syn.maxSegmentBytes ?? DEFAULT_SEGMENT_BYTES, MIN_SEGMENT_BYTES),
      this.#link.maxSegmentBytes,
    );
    this.#window = syn.window;
    this.#windowSequence = syn.sequence;
    this.#windowAcknowledgment = this.#unacknowledged;
    this.#windowShift = syn.windowShift ?? 0;
    this.#isScaled = syn.windowShift !== undefined;
  }

  /** The answer to our SYN, when this end has begun. */
  #answered(segment: TcpSegment): void {
    const { flags, acknowledgment } = segment;
    if ((flags & TCP_FLAG.ack) === 0 || acknowledgment !== (this.#unacknowledged + 1) >>> 0) return;
    if ((flags & TCP_FLAG.rst) !== 0) {
      this.#fail("refused by the guest");
    } else if ((flags & TCP_FLAG.syn) !== 0) {
      this.#begin(segment);
      this.#established();
      this.#acknowledge();
      this.proceed();
    }
  }

  #established(): void {
    this.#hasSyn = false;
    this.#unacknowledged = (this.#unacknowledged + 1) >>> 0;
    this.#next = this.#unacknowledged;
    this.#newest = this.#next;
    this.#retries = 0;
    this.#stopTime();
    this.emit("connect");
  }

  /** @returns Whether the segment belongs to this connection. */
  #acknowledged({ acknowledgment, window, sequence, payload, flags }: TcpSegment): boolean {
    if (this.#hasSyn) {
      if (acknowledgment !== (this.#unacknowledged + 1) >>> 0) {
        this.#link.send({ ...this.#reply(TCP_FLAG.rst, acknowledgment), acknowledgment: 0 });
        return false;
      }
      this.#established();
    }
    const newly = after(acknowledgment, this.#unacknowledged);
    if (newly > after(this.#newest, this.#unacknowledged)) {
      this.#acknowledge();
      return false;
    }
    if (newly < 0) return true;
    // Whoever answers is there, also while it takes nothing.
    this.#retries = 0;
    const wide = window << this.#windowShift;
    const isDuplicate =
      newly === 0 && payload.length === 0 && (flags & TCP_FLAG.fin) === 0 && wide === this.#window && this.#isWaiting();
    const isNewer = after(sequence, this.#windowSequence);
    if (isNewer > 0 || (isNewer === 0 && after(acknowledgment, this.#windowAcknowledgment) >= 0)) {
      this.#window = wide;
      this.#windowSequence = sequence;
      this.#windowAcknowledgment = acknowledgment;
    }
    if (newly > 0) this.#forget(newly);
    else if (isDuplicate) {
      this.#duplicates += 1;
      if (this.#duplicates === DUPLICATES_OF_LOSS) this.#goBack();
    }
    return true;
  }

  /** What is acknowledged need not be kept. */
  #forget(bytes: number): void {
    this.#duplicates = 0;
    this.#unacknowledged = (this.#unacknowledged + bytes) >>> 0;
    if (after(this.#next, this.#unacknowledged) < 0) this.#next = this.#unacknowledged;
    let data = Math.min(bytes, this.#queued);
    this.#queued -= data;
    // The number after the data is the FIN's.
    const isFinished = data < bytes;
    let whole = 0;
    for (const chunk of this.#queue) {
      if (chunk.length > data) break;
      data -= chunk.length;
      whole += 1;
    }
    this.#queue.splice(0, whole);
    const [first] = this.#queue;
    if (first !== undefined && data > 0) this.#queue[0] = first.subarray(data);
    this.#stopTime();
    this.#admit();
    if (isFinished) this.#finish();
  }

  #finish(): void {
    this.#isFinAcknowledged = true;
    this.#onFinished?.();
  }

  #admit(): void {
    if (this.#queued > SEND_BYTES) return;
    const done = this.#onWritten;
    this.#onWritten = undefined;
    done?.();
  }

  #take({ payload, flags }: TcpSegment, offset: number): void {
    if (offset > 0 || this.#isFinReceived || offset + payload.length + 1 < 0) {
      this.#acknowledge();
      return;
    }
    if (this.readableLength === 0) this.#pieces = 0;
    // Many small pieces that nobody reads take more than their bytes; what is not taken comes again.
    const room = this.#pieces < MAX_PIECES ? this.#room() : 0;
    const fresh = payload.subarray(-offset);
    const data = fresh.subarray(0, room);
    const isWhole = offset + payload.length >= 0 && data.length === fresh.length;
    this.#expected = ((this.#expected ?? 0) + data.length) >>> 0;
    const ends = isWhole && (flags & TCP_FLAG.fin) !== 0;
    if (ends) {
      this.#expected = (this.#expected + 1) >>> 0;
      this.#isFinReceived = true;
    }
    // A copy: the frame is somebody else's.
    if (data.length > 0) {
      this.#pieces += 1;
      this.push(Buffer.from(data));
    }
    this.#acknowledge();
    if (ends) this.push(null);
  }

  #room(): number {
    return Math.max(0, RECEIVE_BYTES - this.readableLength);
  }

  #isWaiting(): boolean {
    return this.#next !== this.#unacknowledged;
  }

  #sendSyn(): void {
    const isAnswer = this.#expected !== undefined;
    const { maxSegmentBytes } = this.#link;
    const syn = this.#reply(isAnswer ? TCP_FLAG.syn | TCP_FLAG.ack : TCP_FLAG.syn, this.#unacknowledged);
    const windowShift = this.#isScaled ? WINDOW_SHIFT : undefined;
    // The window of a SYN is never shifted.
    this.#link.send({ ...syn, window: Math.min(RECEIVE_BYTES, 0xffff), maxSegmentBytes, windowShift });
    this.#keepTime();
  }

  #sendData(offset: number, length: number): void {
    const parts: Buffer[] = [];
    let from = offset;
    let left = length;
    for (const chunk of this.#queue) {
      if (left === 0) break;
      if (from < chunk.length) {
        const part = chunk.subarray(from, from + left);
        parts.push(part);
        left -= part.length;
      }
      from = Math.max(0, from - chunk.length);
    }
    const payload = parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts);
    this.#send(TCP_FLAG.psh | TCP_FLAG.ack, this.#next, payload);
    this.#advance(length);
  }

  #advance(length: number): void {
    this.#next = (this.#next + length) >>> 0;
    if (after(this.#next, this.#newest) > 0) this.#newest = this.#next;
  }

  #acknowledge(): void {
    this.#send(TCP_FLAG.ack, this.#next);
  }

  #send(flags: number, sequence: number, payload?: Uint8Array): void {
    this.#link.send(this.#reply(flags, sequence, payload));
  }

  #reply(flags: number, sequence: number, payload: Uint8Array = new Uint8Array()): TcpReply {
    const room = this.#room();
    const shift = this.#isScaled ? WINDOW_SHIFT : 0;
    this.#toldWindow = room;
    return {
      sequence,
      acknowledgment: this.#expected ?? 0,
      flags,
      window: Math.min(room >>> shift, 0xffff),
      payload,
    };
  }

  /** Waits for the other end, if there is something that it has to answer or to make room for. */
  #keepTime(): void {
    const isOwed = this.#hasSyn || this.#isWaiting() || this.#queued > 0;
    if (!isOwed) this.#stopTime();
    else this.#timer ??= setTimeout(() => this.#retry(), Math.min(RETRY_MS * 2 ** this.#retries, MAX_RETRY_MS)).unref();
  }

  #stopTime(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #retry(): void {
    this.#timer = undefined;
    if (!this.#link.isReady()) {
      // Nothing was lost: the guest takes nothing at the moment.
      this.#keepTime();
      return;
    }
    this.#retries += 1;
    if (this.#retries > (this.#hasSyn ? MAX_HANDSHAKE_RETRIES : MAX_RETRIES)) {
      this.#fail("left by the guest");
      return;
    }
    if (this.#hasSyn) this.#sendSyn();
    else {
      this.#goBack();
      // A window that was closed may be open without our knowing. @see RFC 9293, section 3.8.6.1
      if (this.#window === 0 && this.#queued > 0) this.#sendData(0, 1);
      this.proceed();
      this.#keepTime();
    }
  }

  /** Sends everything again that is not acknowledged. */
  #goBack(): void {
    this.#next = this.#unacknowledged;
    if (!this.#isFinAcknowledged) this.#isFinSent = false;
  }

  #fail(how: string): void {
    this.destroy(new SandboxError("SANDBOX_NETWORK_CLOSED", `expected a connection that goes on, got one ${how}`));
  }
}
