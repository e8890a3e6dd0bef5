import type { Duplex } from "node:stream";
import * as z from "zod";
import { parseOptions } from "../description.ts";
import { QemuError } from "../errors.ts";
import { DEFAULT_MAX_CAPTURE_BYTES, PcapRecorder } from "./capture.ts";
import { FrameReader, LENGTH_BYTES } from "./frame-reader.ts";
import { type Random, seededRandom } from "./random.ts";

/** Most bytes that wait for a machine that does not take them; frames beyond are lost, as in a switch. */
export const DEFAULT_MAX_NETWORK_QUEUE_BYTES = 1024 * 1024;

/** Most addresses that are learned: a guest can pretend to be any number of senders. */
const MAX_ADDRESSES = 4096;

const ratio = z.number().min(0).max(1);
const milliseconds = z.number().min(0).max(600_000);

const impairmentSchema = z.strictObject({
  /** part of the frames that is lost, 0 to 1 */
  loss: ratio.default(0),
  /** part of the frames that comes twice, 0 to 1 */
  duplicate: ratio.default(0),
  /** how long each frame takes, in `milliseconds` of the host's time */
  delayMs: milliseconds.default(0),
  /** how much longer a frame may take, at random: frames then overtake each other */
  jitterMs: milliseconds.default(0),
});

const optionsSchema = z.strictObject({
  /** decides which frames are lost, come twice or are late; the same seed decides the same for the same frames */
  seed: z.number().int().min(0).max(0xffff_ffff).default(0),
});

const endpointSchema = z.strictObject({
  /** who it is in {@link Network.partition} */
  name: z.string().min(1),
  /** its Ethernet address, such as `52:54:00:00:00:01` */
  mac: z.string().regex(/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/),
});

/** How {@link createNetwork} makes a network. */
export type NetworkOptions = z.input<typeof optionsSchema>;

/** What happens to frames on their way; what is left out does not. */
export type Impairment = z.input<typeof impairmentSchema>;

/** A recording of all frames that were sent. */
export interface Capture {
  /** Ends it. @returns A pcap file. */
  readonly stop: () => Uint8Array;
}

/** What a network did with the frames that it was given. */
export interface NetworkCounts {
  readonly delivered: number;
  /** lost by {@link Network.impair} or {@link Network.partition} */
  readonly lost: number;
  /** lost because a machine did not take them */
  readonly overrun: number;
}

/** An Ethernet of machines, in this process: nothing of it exists on the host. */
export interface Network {
  /** names of the machines on it */
  readonly machines: readonly string[];
  readonly counts: NetworkCounts;
  /**
   * Makes the network bad, or with nothing good again.
   *
   * @throws {QemuError} `QEMU_BAD_OPTIONS`.
   * @example
   * lan.impair({ loss: 0.1, delayMs: 50 });
   */
  readonly impair: (impairment?: Impairment) => void;
  /**
   * Cuts the network in parts; machines that are not named are one part too. Without arguments it is whole again.
   *
   * @param parts - Names of machines.
   * @throws {QemuError} `QEMU_BAD_OPTIONS` for a machine that is in two parts.
   * @example
   * lan.partition(["a", "b"], ["c"]);
   */
  readonly partition: (...parts: (readonly string[])[]) => void;
  /** Records what machines send from now on, whether it arrives or not; 64 MiB of frames at most. */
  readonly capture: () => Capture;
  /**
   * Plugs in this process, as somebody whom the machines can talk to.
   *
   * @throws {QemuError} `QEMU_BAD_OPTIONS` for an address that is none, or another's.
   * @example
   * const host = lan.connect({ name: "host", mac: "52:54:00:00:00:01", onFrame: (frame) => host.send(answerTo(frame)) });
   */
  readonly connect: (options: NetworkEndpointOptions) => NetworkEndpoint;
}

/** How {@link Network.connect} plugs this process in. */
export interface NetworkEndpointOptions extends z.input<typeof endpointSchema> {
  /** called with each Ethernet frame, without its check sum, that comes; must not keep it */
  readonly onFrame: (frame: Uint8Array) => void;
  /** called when machines take frames again, after {@link NetworkEndpoint.send} has said that one does not */
  readonly onReady?: (() => void) | undefined;
}

/** This process on a network. */
export interface NetworkEndpoint {
  /**
   * Sends an Ethernet frame, which may be used again afterwards.
   *
   * @returns Whether all machines take more. Who goes on in spite of it loses frames when too many wait.
   */
  readonly send: (frame: Uint8Array) => boolean;
  /** Unplugs it. Idempotent. */
  readonly close: () => void;
}

/** Where frames come from, and go to. */
interface Port {
  readonly name: string;
  readonly mac: string;
  /** to a machine */
  readonly stream?: Duplex;
  /** to this process */
  readonly endpoint?: NetworkEndpointOptions;
}

/**
 * Makes a network for machines of this process. It learns who is where, as a switch does, and it can be made bad or cut.
 *
 * @param options - Seed of what goes wrong.
 * @example
 * const lan = createNetwork({ seed: 7 });
 * const networks = { lan };
 * await using server = await startMachine({ ...machine, name: "server", networks: [{ type: "private", name: "lan" }] }, { networks });
 */
export function createNetwork(options: NetworkOptions = {}): Network {
  return new Switch(seededRandom(parseOptions("network", optionsSchema, options).seed));
}

/** The only implementation of {@link Network}. */
export class Switch implements Network {
  readonly #random: Random;
  readonly #ports = new Set<Port>();
  /** where frames from an address came from last */
  readonly #learned = new Map<string, Port>();
  readonly #captures = new Set<PcapRecorder>();
  #impairment = impairmentSchema.parse({});
  #parts = new Map<string, number>();
  #delivered = 0;
  #lost = 0;
  #overrun = 0;

  constructor(random: Random) {
    this.#random = random;
  }

  get machines(): readonly string[] {
    return [...this.#ports].filter(({ stream }) => stream !== undefined).map(({ name }) => name);
  }

  get counts(): NetworkCounts {
    return { delivered: this.#delivered, lost: this.#lost, overrun: this.#overrun };
  }

  impair(impairment: Impairment = {}): void {
    this.#impairment = parseOptions("impairment", impairmentSchema, impairment);
  }

  partition(...parts: (readonly string[])[]): void {
    const found = new Map<string, number>();
    for (const [index, name] of parts.flatMap((names, part) => names.map((each) => [part + 1, each] as const))) {
      if (found.has(name)) {
        const message = `expected each machine in one part, got ${name} in two`;
        throw new QemuError("QEMU_BAD_OPTIONS", message, { issues: [{ path: "parts", message }] });
      }
      found.set(name, index);
    }
    this.#parts = found;
  }

  capture(): Capture {
    const recorder = new PcapRecorder(DEFAULT_MAX_CAPTURE_BYTES);
    this.#captures.add(recorder);
    return {
      stop: () => {
        this.#captures.delete(recorder);
        return recorder.encode();
      },
    };
  }

  /** Refuses a second card with the same address, which is what forks of one template have. */
  assertFree(mac: string): void {
    const taken = [...this.#ports].find((port) => port.mac === mac);
    if (taken === undefined) return;
    const message = `expected another address than that of ${taken.name}, got ${mac} twice on one network`;
    throw new QemuError("QEMU_BAD_OPTIONS", message, {
      issues: [{ path: "networks", message }],
      hint: "give machines different names; forks of one template need a network each",
    });
  }

  connect(options: NetworkEndpointOptions): NetworkEndpoint {
    const { onFrame: _, onReady: __, ...rest } = options;
    const { name, mac } = parseOptions("endpoint", endpointSchema, rest);
    this.assertFree(mac);
    const port: Port = { name, mac, endpoint: options };
    this.#ports.add(port);
    return {
      send: (frame) => {
        if (this.#ports.has(port)) this.#switch(port, Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength));
        return ![...this.#ports].some(({ stream }) => stream?.writableNeedDrain);
      },
      close: () => this.#unplug(port),
    };
  }

  /** Plugs in a machine; it is unplugged when the stream ends. */
  attach(name: string, mac: string, stream: Duplex): void {
    const port: Port = { name, mac, stream };
    const reader = new FrameReader();
    this.#ports.add(port);
    stream.on("data", (chunk: Uint8Array) => {
      const frames = reader.push(chunk);
      // QEMU never does this; whoever does has left.
      if (frames === undefined) stream.destroy();
      for (const frame of frames ?? []) this.#switch(port, frame);
    });
    stream.on("error", () => {});
    stream.on("end", () => stream.destroy());
    stream.on("drain", () => {
      for (const { endpoint } of this.#ports) endpoint?.onReady?.();
    });
    stream.on("close", () => this.#unplug(port));
  }

  #unplug(port: Port): void {
    this.#ports.delete(port);
    for (const [address, where] of this.#learned) if (where === port) this.#learned.delete(address);
  }

  #switch(from: Port, frame: Buffer): void {
    for (const recorder of this.#captures) recorder.add(frame, Date.now());
    // Two addresses of six bytes; the lowest bit of the first byte says that a frame is for many.
    if (frame.length < 12) return;
    this.#learn(frame.toString("hex", 6, 12), from);
    const known = ((frame[0] ?? 0) & 1) === 1 ? undefined : this.#learned.get(frame.toString("hex", 0, 6));
    for (const port of known === undefined ? this.#ports : [known]) {
      if (port !== from) this.#send(from, port, frame);
    }
  }

  #learn(address: string, port: Port): void {
    if (this.#learned.size < MAX_ADDRESSES || this.#learned.has(address)) this.#learned.set(address, port);
  }

  #send(from: Port, to: Port, frame: Buffer): void {
    const { loss, duplicate, delayMs, jitterMs } = this.#impairment;
    const isCut = (this.#parts.get(from.name) ?? 0) !== (this.#parts.get(to.name) ?? 0);
    if (isCut || (loss > 0 && this.#random() < loss)) {
      this.#lost += 1;
      return;
    }
    const copies = duplicate > 0 && this.#random() < duplicate ? 2 : 1;
    for (let copy = 0; copy < copies; copy += 1) {
      const late = delayMs + (jitterMs > 0 ? this.#random() * jitterMs : 0);
      if (late === 0) this.#deliver(to, frame);
      else {
        // Whoever has sent it may use it again.
        const kept = Buffer.from(frame);
        setTimeout(() => this.#deliver(to, kept), late).unref();
      }
    }
  }

  #deliver(port: Port, frame: Buffer): void {
    const { stream, endpoint } = port;
    if (!this.#ports.has(port) || stream?.destroyed) return;
    if (stream !== undefined && stream.writableLength > DEFAULT_MAX_NETWORK_QUEUE_BYTES) {
      this.#overrun += 1;
      return;
    }
    this.#delivered += 1;
    endpoint?.onFrame(frame);
    if (stream === undefined) return;
    const header = Buffer.alloc(LENGTH_BYTES);
    header.writeUInt32BE(frame.length, 0);
    stream.write(Buffer.concat([header, frame]));
  }
}
