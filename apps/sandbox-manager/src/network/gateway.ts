import type { Duplex } from "node:stream";
import { createNetwork, type Network } from "@leveret/qemu-harness";
import { DNS_CODE, DNS_TYPE, decodeDnsQuery, encodeDnsAnswer } from "./format/dns.ts";
import { formatIpv4 } from "./format/packet.ts";
import { TLS_ACCESS_DENIED } from "./format/tls.ts";
import { type NetworkEvent, NetworkLog } from "./log.ts";
import {
  type NetworkExplanation,
  type NetworkReason,
  type NetworkReport,
  type NetworkRules,
  type NetworkState,
  REASONS,
} from "./messages.ts";
import { isHostName, NameTable, normaliseName, REFUSED_ADDRESS } from "./names.ts";
import { type Opening, readOpening } from "./opening.ts";
import { relay } from "./relay.ts";
import { hostResolver, type Resolver } from "./resolve.ts";
import { type Rule, RuleSet } from "./rules.ts";
import { GATEWAY_MAC, Stack } from "./stack.ts";
import { RefusalError, Upstream } from "./upstream.ts";

/** How long a guest may take to say whom a connection is for, in `milliseconds`. */
const OPENING_TIMEOUT_MS = 10_000;
/** The same where the answer is no anyway. */
const REFUSED_OPENING_TIMEOUT_MS = 1000;
/** How long a refusal may take to be read. */
const LAST_WORDS_TIMEOUT_MS = 5000;
/** How long a guest may remember an address, in `seconds`. It never changes, but may cease to be allowed. */
const NAME_TTL_S = 60;
const FIRST_UNPRIVILEGED_PORT = 1024;
const UPSTREAM_REASONS: readonly NetworkReason[] = ["unresolved", "unreachable"];

/** A connection that is open on both sides. */
interface Open {
  readonly name: string;
  readonly port: number;
  readonly close: () => void;
}

/** A guest's plug. */
export interface Plug {
  /** what its card is connected to */
  readonly network: Network;
  /** Lets a machine know that connections are gone that it has from the one that it is a copy of. */
  readonly disown: (connections: NetworkState["connections"]) => void;
  /** what a copy of the guest has to know */
  readonly state: () => NetworkState;
  /** Ends all connections. Idempotent. */
  readonly close: () => void;
}

/** Where the guest wants to go: a name that it has looked up, or has said. */
interface Wanted {
  readonly address: number;
  readonly port: number;
  readonly stream: Duplex;
}

/** Most connections that something is done for at a time. */
const MAX_SERVING = 256;

/** The way out of a sandbox: names are looked up and connections made here, as far as rules allow. */
export class Gateway {
  readonly #rules: RuleSet;
  readonly #names: NameTable;
  readonly #log = new NetworkLog();
  readonly #upstream: Upstream;
  readonly #open = new Set<Open>();
  #serving = 0;

  /** @throws {SandboxError} `SANDBOX_NETWORK_RULE`. */
  constructor({ allow, deny, names }: Partial<NetworkState> = {}, resolver: Resolver = hostResolver) {
    this.#rules = new RuleSet({ allow: allow ?? [], deny: deny ?? [] });
    this.#names = new NameTable(names);
    this.#upstream = new Upstream(resolver);
  }

  /** Makes a network for one machine. */
  plug(): Plug {
    const network = createNetwork();
    const stack = new Stack({
      send: (frame) => endpoint.send(frame),
      answer: (query) => this.#answer(query),
      accepts: (address, port) => this.#accepts(address, port),
      onConnection: (stream, address, port) => void this.#serve({ stream, address, port }),
      onDatagram: (address, port) =>
        this.#note({ host: this.#hostOf(address), port, protocol: "udp", verdict: "refused", reason: "udp" }),
    });
    const endpoint = network.connect({
      name: "gateway",
      mac: GATEWAY_MAC,
      onFrame: (frame) => stack.receive(frame),
      onReady: () => stack.proceed(),
    });
    return {
      network,
      disown: (connections) => stack.disown(connections),
      state: () => ({ ...this.report.rules, names: [...this.#names.names], connections: [...stack.connections] }),
      close: () => {
        stack.close();
        endpoint.close();
      },
    };
  }

  /** What is in force, and what was done. */
  get report(): NetworkReport {
    const { allow, deny } = this.#rules.texts;
    return { rules: { allow: [...allow], deny: [...deny] }, log: [...this.#log.entries] };
  }

  /** Adds rules. @throws {SandboxError} `SANDBOX_NETWORK_RULE`; some may have been added then. */
  allow(rules: NetworkRules["allow"]): void {
    for (const { text, source } of rules) this.#rules.allow(text, source);
  }

  /** Adds rules that deny, and ends connections that are not allowed any more. @throws As {@link Gateway.allow}. */
  deny(rules: NetworkRules["deny"]): void {
    for (const { text, source } of rules) this.#rules.deny(text, source);
    for (const { name, port, close } of this.#open) {
      if (!this.#rules.verdict(name, port).allowed) close();
    }
  }

  /** Says what would become of a connection, by doing all that it would but to connect. @throws {SandboxError} `SANDBOX_NETWORK_RULE`. */
  async why(text: string, port: number): Promise<NetworkExplanation> {
    const host = normaliseName(text);
    const verdict = this.#rules.verdict(host, port);
    const rule = verdict.rule && { text: verdict.rule.text, source: verdict.rule.source };
    if (!verdict.allowed) {
      const { reason } = verdict;
      return { host, port, allowed: false, reason, rule, hint: hintOf(reason, host, port) };
    }
    try {
      const { addresses } = await this.#upstream.locate(host, port, verdict.rule);
      return { host, port, allowed: true, rule, addresses: [...addresses] };
    } catch (error) {
      if (!(error instanceof RefusalError)) throw error;
      return { host, port, allowed: false, reason: error.reason, rule, hint: hintOf(error.reason, host, port) };
    }
  }

  /** Nothing of a query goes anywhere: names stand for addresses of ours, whether there are such hosts or not. */
  #answer(query: Uint8Array): Uint8Array {
    const asked = decodeDnsQuery(query);
    const { name, type } = asked;
    const isName = isHostName(name);
    if (isName && this.#rules.knows(name)) {
      if (type !== DNS_TYPE.a) return encodeDnsAnswer(asked, { code: DNS_CODE.ok });
      const address = this.#names.addressOf(name);
      const code = address === undefined ? DNS_CODE.refused : DNS_CODE.ok;
      return encodeDnsAnswer(asked, { code, address, ttl: NAME_TTL_S });
    }
    const types: number[] = Object.values(DNS_TYPE);
    if (!isName || !types.includes(type)) {
      this.#note({ host: printable(name), protocol: "dns", verdict: "refused", reason: "not-allowed" });
      return encodeDnsAnswer(asked, { code: DNS_CODE.noSuchName });
    }
    // One address for all of them: somebody is there who says why.
    const address = type === DNS_TYPE.a ? REFUSED_ADDRESS : undefined;
    if (address !== undefined) {
      const verdict = this.#rules.verdict(name, 0);
      const reason = verdict.allowed ? undefined : verdict.reason;
      this.#note({ host: name, protocol: "dns", verdict: "refused", reason });
    }
    return encodeDnsAnswer(asked, { code: DNS_CODE.ok, address });
  }

  #accepts(address: number, port: number): boolean {
    const name = this.#names.nameOf(address);
    if (name !== undefined && this.#rules.verdict(name, port).allowed) return true;
    // Where somebody may speak first whom an answer can be given to.
    if (port === 80 || port === 443 || port >= FIRST_UNPRIVILEGED_PORT) return true;
    const reason = name === undefined ? "raw-address" : "port-not-allowed";
    this.#note({ host: this.#hostOf(address), port, protocol: "tcp", verdict: "refused", reason });
    return false;
  }

  async #serve({ stream, address, port }: Wanted): Promise<void> {
    // A guest that goes away from a connection has not ended what is done for it.
    if (this.#serving >= MAX_SERVING) {
      stream.destroy();
      return;
    }
    this.#serving += 1;
    try {
      await this.#lead(stream, address, port);
    } catch (error) {
      stream.destroy();
      process.stderr.write(`network: ${error instanceof Error ? error.stack : error}\n`);
    } finally {
      this.#serving -= 1;
    }
  }

  async #lead(stream: Duplex, address: number, port: number): Promise<void> {
    const known = this.#names.nameOf(address);
    const first = known === undefined ? undefined : this.#rules.verdict(known, port);
    if (known !== undefined && first?.allowed && first.rule.protocol === "tcp") {
      await this.#through({ stream, name: known, port, rule: first.rule, opening: { kind: "none" } });
      return;
    }
    const opening = await readOpening(stream, first?.allowed ? OPENING_TIMEOUT_MS : REFUSED_OPENING_TIMEOUT_MS);
    const said = nameIn(opening);
    // Who was sent to the address of refused names may have been allowed since.
    const name = known ?? (address === REFUSED_ADDRESS && said !== undefined && isHostName(said) ? said : undefined);
    const host = name ?? formatIpv4(address);
    const refuse = (reason: NetworkReason, rule?: Rule): void => {
      this.#note({ host, port, protocol: protocolOf(opening), verdict: "refused", reason, rule: rule?.text });
      answerRefusal(stream, opening, { host, port, reason });
    };
    if (name === undefined) return refuse(address === REFUSED_ADDRESS ? "no-name" : "raw-address");
    const verdict = this.#rules.verdict(name, port);
    if (!verdict.allowed) return refuse(verdict.reason, verdict.rule);
    const wrong = whatIsWrong(opening, name, port);
    if (wrong !== undefined) return refuse(wrong);
    await this.#through({ stream, name, port, rule: verdict.rule, opening });
  }

  async #through(way: {
    readonly stream: Duplex;
    readonly name: string;
    readonly port: number;
    readonly rule: Rule;
    readonly opening: Opening;
  }): Promise<void> {
    const { stream, name, port, rule, opening } = way;
    const event = { host: name, port, protocol: protocolOf(opening), rule: rule.text } as const;
    const gone = new AbortController();
    const open: Open = {
      name,
      port,
      close: () => {
        gone.abort();
        stream.destroy();
      },
    };
    const abort = (): void => gone.abort();
    stream.once("close", abort);
    this.#open.add(open);
    try {
      const destination = await this.#upstream.locate(name, port, rule);
      const socket = await this.#upstream.connect(destination, gone.signal);
      this.#note({ ...event, verdict: "allowed" });
      await relay(stream, socket, opening);
      this.#log.note({ ...event, verdict: "allowed" }, { sent: socket.bytesWritten, received: socket.bytesRead });
    } catch (error) {
      if (!(error instanceof RefusalError)) throw error;
      if (stream.destroyed) return;
      const { reason } = error;
      this.#note({ ...event, verdict: "refused", reason });
      answerRefusal(stream, opening, { host: name, port, reason });
    } finally {
      stream.removeListener("close", abort);
      this.#open.delete(open);
    }
  }

  #note(event: NetworkEvent): void {
    this.#log.note(event);
  }

  #hostOf(address: number): string {
    return this.#names.nameOf(address) ?? formatIpv4(address);
  }
}

/** What a person sees of a name that is none. */
function printable(name: string): string {
  return name.replace(/[^\x21-\x7e]/g, "?");
}

/** Whom a connection says that it is for. */
function nameIn(opening: Opening): string | undefined {
  if (opening.kind === "tls") return opening.hello.serverName;
  return opening.kind === "http" ? opening.head.host : undefined;
}

function protocolOf({ kind }: Opening): "http" | "tls" | "tcp" {
  if (kind === "none") return "tcp";
  return kind.endsWith("tls") ? "tls" : "http";
}

function whatIsWrong(opening: Opening, name: string, port: number): NetworkReason | undefined {
  const { kind } = opening;
  if (kind === "none") return "no-name";
  if (kind === "bad tls" || kind === "bad http") return "malformed";
  const said = nameIn(opening);
  if (said === undefined) return "no-name";
  if (said !== name || (kind === "http" && opening.head.port !== port)) return "other-name";
  return kind === "tls" && opening.hello.isEncrypted ? "encrypted-name" : undefined;
}

function hintOf(reason: NetworkReason, host: string, port: number): string {
  if (reason === "not-allowed") return `${REASONS[reason]}; on the host: leveret-sandbox net allow ${host}`;
  if (reason === "port-not-allowed")
    return `${REASONS[reason]}; on the host: leveret-sandbox net allow ${host}:${port}`;
  if (reason === "private-address") {
    return `${REASONS[reason]}; to allow just that: leveret-sandbox net allow ${host}:${port}=ADDRESS`;
  }
  return REASONS[reason];
}

/** Says why in the terms of who has asked, if there are any, and ends the connection. */
function answerRefusal(
  stream: Duplex,
  { kind }: Opening,
  { host, port, reason }: { readonly host: string; readonly port: number; readonly reason: NetworkReason },
): void {
  if (kind === "none" || stream.destroyed) {
    stream.destroy();
    return;
  }
  const timer = setTimeout(() => stream.destroy(), LAST_WORDS_TIMEOUT_MS).unref();
  stream.once("close", () => clearTimeout(timer));
  // Whatever else it sends is not read, but has to be taken for the answer to be seen.
  stream.resume();
  if (kind === "tls" || kind === "bad tls") {
    stream.end(TLS_ACCESS_DENIED);
    return;
  }
  const hint = hintOf(reason, host, port);
  const body = `${JSON.stringify({ kind: "sandbox-network-refused", version: 1, host, port, reason, hint })}\n`;
  const status = UPSTREAM_REASONS.includes(reason) ? "502 Bad Gateway" : "403 Forbidden";
  const fields = `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close`;
  stream.end(`HTTP/1.1 ${status}\r\n${fields}\r\n\r\n${body}`);
}
