import type { Duplex } from "node:stream";
import * as z from "zod";
import { parseOptions } from "../description.ts";
import { QemuError } from "../errors.ts";
import { ERROR } from "../format/nbd.ts";
import type { Random } from "../network/random.ts";
import type { BlockDevice, BlockDeviceCounts, PowerCut, PowerCutPlan } from "./device.ts";
import { type DiskImpairment, Impairments, impairmentSchema } from "./impairment.ts";
import { Journal } from "./journal.ts";
import { type Ground, Layer } from "./layer.ts";
import { type NbdAnswer, type NbdRequest, NbdSession, SECTOR_BYTES } from "./nbd-server.ts";
import {
  applyFate,
  type BlockRequest,
  type Change,
  fatesOf,
  isWhole,
  type PowerCutOptions,
  powerCutSchema,
  whole,
} from "./power-cut.ts";
import { placeOf, SectorMap, ZERO } from "./sector-map.ts";

/** What a request costs of what a disk remembers, in `bytes`, however little it writes. */
export const MIN_REQUEST_COST_BYTES = 4096;

const planSchema = powerCutSchema.extend({ atWrite: z.number().int().min(1) });

/** What happened at a disk, in order. */
export type DiskEvent =
  | { readonly type: "change"; readonly change: Change }
  | { readonly type: "durable"; readonly changes: readonly Change[]; readonly flush: BlockRequest | undefined }
  | { readonly type: "mark"; readonly name: string };

interface NodeDiskParts {
  readonly random: Random;
  readonly maxWrittenBytes: number;
  readonly close?: () => Promise<void>;
}

/** The only implementation of {@link BlockDevice}. */
export class NodeDisk implements BlockDevice {
  readonly ground: Ground;
  readonly journal = new Journal();
  readonly #parts: NodeDiskParts;
  /** what would be there after any power cut */
  #durable = new SectorMap();
  #current = new SectorMap();
  /** what is there now */
  #layer: Layer;
  #volatile: { readonly change: Change; answeredIn: number }[] = [];
  #events: DiskEvent[] = [];
  #changes = 0;
  #writtenBytes = 0;
  #impairments: Impairments;
  #plan: (z.output<typeof planSchema> & { atChange: number }) | undefined;
  #counts = { reads: 0, writes: 0, flushes: 0, trims: 0, failed: 0 };
  #lastPowerCut: PowerCut | undefined;
  #isFull = false;
  /** how often power failed */
  #cuts = 0;
  #user: { session: NbdSession; stream: Duplex; cutPower: (options: PowerCutOptions) => void } | undefined;

  constructor(ground: Ground, parts: NodeDiskParts) {
    this.ground = ground;
    this.#parts = parts;
    this.#layer = new Layer(this.#current, this.journal, ground);
    this.#impairments = new Impairments(impairmentSchema.parse({}), parts.random);
  }

  get sizeBytes(): number {
    return this.ground.sizeBytes;
  }

  get counts(): BlockDeviceCounts {
    return { ...this.#counts };
  }

  get requests(): readonly BlockRequest[] {
    return this.#events.flatMap((event) => {
      if (event.type === "change") return [publicRequest(event.change)];
      return event.type === "durable" && event.flush !== undefined ? [event.flush] : [];
    });
  }

  get lastPowerCut(): PowerCut | undefined {
    return this.#lastPowerCut;
  }

  /** Everything that happened since the beginning or the last power cut. */
  get events(): readonly DiskEvent[] {
    return this.#events;
  }

  /** Whether requests failed because too much was written to be remembered. */
  get isFull(): boolean {
    return this.#isFull;
  }

  impair(impairment: DiskImpairment = {}): void {
    const settings = parseOptions("impairment", impairmentSchema, impairment);
    this.#impairments = new Impairments(settings, this.#parts.random);
  }

  cutPower(plan: PowerCutPlan): void {
    const parsed = parseOptions("power cut", planSchema, plan);
    this.#plan = { ...parsed, atChange: this.#changes + parsed.atWrite };
  }

  /** Notes that something has happened outside the disk. */
  mark(name: string): void {
    this.#events.push({ type: "mark", name });
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    this.#assertOpen();
    const isRange = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0;
    if (!isRange || offset + length > this.sizeBytes) {
      const message = `expected a range of a disk of ${this.sizeBytes} bytes, got ${length} bytes from ${offset}`;
      throw new QemuError("QEMU_BAD_OPTIONS", message, { issues: [{ path: "offset", message }] });
    }
    if (length === 0) return new Uint8Array();
    const start = Math.floor(offset / SECTOR_BYTES) * SECTOR_BYTES;
    const bytes = new Uint8Array(Math.ceil((offset + length - start) / SECTOR_BYTES) * SECTOR_BYTES);
    await this.#layer.readInto(bytes, start);
    return bytes.subarray(offset - start, offset - start + length);
  }

  /** @throws {QemuError} `QEMU_BAD_OPTIONS` when a machine has it, `QEMU_CLOSED`. */
  assertFree(name: string): void {
    this.#assertOpen();
    if (this.#user === undefined || this.#user.stream.destroyed) return;
    const message = `expected a disk that no machine has, got ${name}`;
    throw new QemuError("QEMU_BAD_OPTIONS", message, {
      issues: [{ path: "disks", message }],
      hint: "machines, and forks too, need a disk each: createBlockDevice() of the same image costs nothing",
    });
  }

  /** Gives it to a machine, until the stream ends. */
  attach(stream: Duplex, cutPower: (options: PowerCutOptions) => void): void {
    const session: NbdSession = new NbdSession(stream, {
      sizeBytes: this.sizeBytes,
      request: (request, answer) => this.#request(session, request, answer),
    });
    const user = { session, stream, cutPower };
    this.#user = user;
    stream.once("close", () => {
      if (this.#user === user) this.#user = undefined;
    });
  }

  /** Loses what a power cut loses; nothing more is heard of the machine. */
  losePower(options: PowerCutOptions): void {
    const settings = parseOptions("power cut", powerCutSchema, options);
    this.#user?.session.silence();
    this.#plan = undefined;
    this.#cuts += 1;
    const changes = this.#volatile.map(({ change }) => change);
    const fates = fatesOf(changes, settings, this.#parts.random);
    for (const fate of fates) applyFate(this.#durable, fate);
    this.#lastPowerCut = {
      writeCache: settings.writeCache,
      afterWrite: this.#changes,
      damaged: fates
        .filter((fate) => !isWhole(fate))
        .map(({ change, kept }) => ({ request: publicRequest(change), kept })),
    };
    this.#current = this.#durable.clone();
    this.#layer = new Layer(this.#current, this.journal, this.ground);
    this.#volatile = [];
    this.#events = [];
    this.#changes = 0;
  }

  async close(): Promise<void> {
    this.#user?.stream.destroy();
    this.journal.close();
    await this.#parts.close?.();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #request(session: NbdSession, request: NbdRequest, answer: NbdAnswer): void {
    const error = this.#impairments.errorOf(request);
    const delayMs = this.#impairments.delay();
    const reply: NbdAnswer = (...result) => later(delayMs, () => answer(...result));
    if (error !== ERROR.none) {
      this.#counts.failed += 1;
      reply(error);
    } else if (request.type === "read") {
      this.#read(request, reply);
    } else if (!this.#afford(request.data.length)) {
      reply(ERROR.noSpace);
    } else {
      const settle = request.type === "flush" ? this.#flush(request) : this.#change(session, request);
      const cuts = this.#cuts;
      later(delayMs, () => {
        // After a power cut nothing is answered, and nothing becomes durable that was not before.
        if (cuts !== this.#cuts) return;
        settle();
        answer(ERROR.none);
      });
    }
  }

  #read({ offset, length }: NbdRequest, reply: NbdAnswer): void {
    this.#counts.reads += 1;
    const bytes = Buffer.allocUnsafe(length);
    const done = (): void => reply(ERROR.none, bytes);
    // What the disk began as cannot be read, which for the guest is an error of the disk.
    const failed = (): void => reply(ERROR.io);
    let wait: Promise<void> | undefined;
    try {
      wait = this.#layer.readInto(bytes, offset);
    } catch {
      failed();
      return;
    }
    if (wait === undefined) done();
    else wait.then(done, failed);
  }

  /** @returns What is to be done when it is answered. */
  #flush(request: NbdRequest): () => void {
    this.#counts.flushes += 1;
    // A write whose answer was on its way when the flush was sent, the flush does not cover.
    const covered = this.#volatile.filter(({ answeredIn }) => answeredIn < request.piece);
    const flush = { number: this.#changes, type: "flush", sector: 0, sectors: 0, fua: false } as const;
    return () => this.#settle(covered, flush);
  }

  /** @returns What is to be done when it is answered. */
  #change(session: NbdSession, { type, offset, length, fua, data }: NbdRequest): () => void {
    if (type === "read" || type === "flush") throw new Error(`bug: ${type} changes nothing`);
    this.#counts[type === "trim" ? "trims" : "writes"] += 1;
    const [sector, sectors] = [offset / SECTOR_BYTES, length / SECTOR_BYTES];
    this.#changes += 1;
    const place = type === "write" ? placeOf(this.journal.append(data)) : ZERO;
    const change: Change = { number: this.#changes, type, sector, sectors, fua, place };
    applyFate(this.#current, whole(change));
    const pending = { change, answeredIn: Number.POSITIVE_INFINITY };
    this.#volatile.push(pending);
    this.#events.push({ type: "change", change });
    if (this.#changes === this.#plan?.atChange) {
      const { writeCache, sectorBytes } = this.#plan;
      this.#user?.cutPower({ writeCache, sectorBytes });
    }
    return () => {
      pending.answeredIn = session.piece;
      if (fua) this.#settle([pending], undefined);
    };
  }

  /** Makes writes durable. */
  #settle(covered: readonly { readonly change: Change }[], flush: BlockRequest | undefined): void {
    const done = new Set(covered);
    for (const { change } of covered) applyFate(this.#durable, whole(change));
    this.#volatile = this.#volatile.filter((each) => !done.has(each));
    this.#events.push({ type: "durable", changes: covered.map(({ change }) => change), flush });
  }

  #assertOpen(): void {
    if (this.journal.isClosed) throw new QemuError("QEMU_CLOSED", "expected a disk, got one that was closed");
  }

  #afford(bytes: number): boolean {
    const cost = Math.max(bytes, MIN_REQUEST_COST_BYTES);
    if (this.#writtenBytes + cost > this.#parts.maxWrittenBytes) {
      this.#isFull = true;
      return false;
    }
    this.#writtenBytes += cost;
    return true;
  }
}

function later(delayMs: number, act: () => void): void {
  if (delayMs === 0) act();
  else setTimeout(act, delayMs).unref();
}

/** A request without what only the disk knows about it. */
export function publicRequest({ number, type, sector, sectors, fua }: BlockRequest): BlockRequest {
  return { number, type, sector, sectors, fua };
}
