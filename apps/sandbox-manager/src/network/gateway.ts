import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { createNetwork, type Network } from "@leveret/qemu-harness";
import { Authority, type TrustedAuthority } from "./authority.ts";
import { DNS_CODE, DNS_TYPE, decodeDnsQuery, encodeDnsAnswer } from "./format/dns.ts";
import type { RequestHead } from "./format/http.ts";
import { formatIpv4 } from "./format/packet.ts";
import { trustEnvironment } from "./guest.ts";
import { answerTls, beginTls } from "./interception.ts";
import { type NetworkEvent, NetworkLog } from "./log.ts";
import type {
  NetworkExplanation,
  NetworkReason,
  NetworkReport,
  NetworkRules,
  NetworkState,
  SecretGrant,
} from "./messages.ts";
import { isHostName, NameTable, normaliseName, REFUSED_ADDRESS } from "./names.ts";
import { type Opening, readOpening } from "./opening.ts";
import { answerRefusal, hintOf, nameIn, protocolOf, whatIsWrong } from "./refusal.ts";
import { exchange, relay, relayTls } from "./relay.ts";
import type { RequestFacts } from "./request-pattern.ts";
import { hostResolver, type Resolver } from "./resolve.ts";
import { type Rule, RuleSet } from "./rules.ts";
import { Secrets } from "./secrets.ts";
import { GATEWAY_MAC, Stack } from "./stack.ts";
import { RefusalError, Upstream } from "./upstream.ts";

/** How long a guest may take to say whom a connection is for, in `milliseconds`. */
const OPENING_TIMEOUT_MS = 10_000;
/** The same where the answer is no anyway. */
const REFUSED_OPENING_TIMEOUT_MS = 1000;
/** How long a guest may remember an address, in `seconds`. It never changes, but may cease to be allowed. */
const NAME_TTL_S = 60;
const FIRST_UNPRIVILEGED_PORT = 1024;
/** Longest description of a request that is noted, in characters. */
const MAX_REQUEST_LENGTH = 200;

/** A connection that is open on both sides. */
interface Open {
  readonly name: string;
  readonly port: number;
  /** absent where nobody has looked at what is said */
  readonly request?: RequestFacts | undefined;
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

/** A connection to a name. */
interface Way {
  /** what the guest's words are read from */
  readonly stream: Duplex;
  readonly name: string;
  readonly port: number;
  readonly opening: Opening;
  /** whether it is the inside of TLS, which begins anew on the other side */
  readonly isInside: boolean;
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
  readonly #secrets: Secrets;
  #authority: Authority | undefined;
  #serving = 0;

  /** @throws {SandboxError} `SANDBOX_NETWORK_RULE`. */
  constructor({ allow, deny, names, secrets }: Partial<NetworkState> = {}, resolver: Resolver = hostResolver) {
    this.#rules = new RuleSet({ allow: allow ?? [], deny: deny ?? [] });
    this.#names = new NameTable(names);
    this.#secrets = new Secrets(secrets);
    this.#upstream = new Upstream(resolver);
  }

  /** Who the guest has to trust, since there are hosts whose requests are looked at. */
  get authority(): TrustedAuthority | undefined {
    if (this.#rules.hasLimits || this.#secrets.references.length > 0) this.#authority ??= new Authority();
    return this.#authority;
  }

  /** What programs of the guest find in their environment. */
  get environment(): Readonly<Record<string, string>> {
    return { ...(this.authority === undefined ? {} : trustEnvironment()), ...this.#secrets.environment };
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
      state: () => {
        const { rules, secrets } = this.report;
        return { ...rules, secrets, names: [...this.#names.names], connections: [...stack.connections] };
      },
      close: () => {
        stack.close();
        endpoint.close();
      },
    };
  }

  /** What is in force, and what was done. */
  get report(): NetworkReport {
    const { allow, deny } = this.#rules.texts;
    return {
      rules: { allow: [...allow], deny: [...deny] },
      secrets: [...this.#secrets.references],
      log: [...this.#log.entries],
    };
  }

  /** Adds rules. @throws {SandboxError} `SANDBOX_NETWORK_RULE`; some may have been added then. */
  allow(rules: NetworkRules["allow"]): void {
    for (const { text, source } of rules) this.#rules.allow(text, source);
  }

  /** Adds rules that deny, and ends connections that are not allowed any more. @throws As {@link Gateway.allow}. */
  deny(rules: NetworkRules["deny"]): void {
    for (const { text, source } of rules) this.#rules.deny(text, source);
    for (const { name, port, request, close } of this.#open) {
      const { deny: limits } = this.#rules.limits(name, port);
      const isUnseen = request === undefined && limits.length > 0;
      if (isUnseen || !this.#rules.verdict(name, port, request).allowed) close();
    }
  }

  /** Takes values of secrets. @throws {SandboxError} `SANDBOX_NETWORK_RULE`; some may have been taken then. */
  grant(secrets: readonly SecretGrant[]): void {
    for (const secret of secrets) this.#secrets.grant(secret);
  }

  /** Whether the value of a secret is in a text. */
  reveals(text: string): boolean {
    return this.#secrets.isIn(text);
  }

  /**
   * Says what would become of a connection or a request, by doing all that it would but to connect.
   *
   * @throws {SandboxError} `SANDBOX_NETWORK_RULE`.
   */
  async why(
    text: string,
    port: number,
    request?: { readonly method: string; readonly target: string },
  ): Promise<NetworkExplanation> {
    const host = normaliseName(text);
    const verdict = this.#rules.verdict(host, port, request && { ...request, fields: [] });
    const limits = this.#rules.limits(host, port);
    const textsOf = (rules: readonly Rule[]): string[] => rules.map((rule) => rule.text);
    const facts = {
      host,
      port,
      rule: verdict.rule && { text: verdict.rule.text, source: verdict.rule.source },
      limits: { allow: textsOf(limits.allow), deny: textsOf(limits.deny) },
      secrets: [...this.#secrets.namesFor(host, port)],
    };
    const refused = (reason: NetworkReason): NetworkExplanation => {
      const said = request && describeRequest(request);
      return { ...facts, allowed: false, reason, hint: hintOf({ reason, host, port, request: said }) };
    };
    if (!verdict.allowed) return refused(verdict.reason);
    try {
      const { addresses } = await this.#upstream.locate(host, port, verdict.rule);
      return { ...facts, allowed: true, addresses: [...addresses] };
    } catch (error) {
      if (error instanceof RefusalError) return refused(error.reason);
      throw error;
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
      await this.#through({ stream, name: known, port, opening: { kind: "none" }, isInside: false }, first.rule);
      return;
    }
    const opening = await readOpening(stream, first?.allowed ? OPENING_TIMEOUT_MS : REFUSED_OPENING_TIMEOUT_MS);
    const said = nameIn(opening);
    // Who was sent to the address of refused names may have been allowed since.
    const name = known ?? (address === REFUSED_ADDRESS && said !== undefined && isHostName(said) ? said : undefined);
    const way: Way = { stream, name: name ?? formatIpv4(address), port, opening, isInside: false };
    if (name === undefined) return this.#refuse(way, address === REFUSED_ADDRESS ? "no-name" : "raw-address");
    const verdict = this.#rules.verdict(name, port);
    if (!verdict.allowed) return this.#refuse(way, verdict.reason, verdict.rule);
    const wrong = whatIsWrong(opening, name, port);
    if (wrong !== undefined) return this.#refuse(way, wrong);
    if (opening.kind !== "tls") return this.#request(way);
    if (!this.#isLookedInto(name, port)) return this.#through(way, verdict.rule);
    this.#authority ??= new Authority();
    const inside = answerTls(stream, opening.bytes, this.#authority.contextFor(name));
    const request = await readOpening(inside, OPENING_TIMEOUT_MS, "https");
    const whole: Way = { ...way, stream: inside, opening: request, isInside: true };
    const amiss = whatIsWrong(request, name, port);
    if (amiss !== undefined) return this.#refuse(whole, amiss);
    await this.#request(whole);
  }

  /** Lets a request through, if it is one that may be. */
  async #request(way: Way): Promise<void> {
    const { name, port, opening } = way;
    if (opening.kind !== "http") throw new Error("bug: no request where there has to be one");
    const verdict = this.#rules.verdict(name, port, factsOf(opening.head));
    if (verdict.allowed) await this.#through(way, verdict.rule);
    else this.#refuse(way, verdict.reason, verdict.rule);
  }

  /** Whether TLS with a host ends here, so that requests can be looked at. */
  #isLookedInto(name: string, port: number): boolean {
    const { allow, deny } = this.#rules.limits(name, port);
    return allow.length + deny.length + this.#secrets.namesFor(name, port).length > 0;
  }

  #refuse(way: Way, reason: NetworkReason, rule?: Rule): void {
    const { stream, name: host, port, opening } = way;
    const isOfRequest = opening.kind === "http" && (reason === "request-not-allowed" || rule?.request !== undefined);
    const request = isOfRequest ? describeRequest(opening.head) : undefined;
    this.#note({ host, port, protocol: noted(way), verdict: "refused", reason, rule: rule?.text, request });
    answerRefusal(stream, opening, { host, port, reason, request });
  }

  async #through(way: Way, rule: Rule): Promise<void> {
    const { stream, name, port, opening, isInside } = way;
    const event = { host: name, port, protocol: noted(way), rule: rule.text } as const;
    const gone = new AbortController();
    const open: Open = {
      name,
      port,
      request: opening.kind === "http" ? factsOf(opening.head) : undefined,
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
      const notes = {
        onBegin: () => this.#note({ ...event, verdict: "allowed" }),
        onLie: () => this.#note({ ...event, verdict: "refused", reason: "other-name" }),
      };
      await this.#carry(way, socket, gone.signal, notes);
      this.#log.note({ ...event, verdict: "allowed" }, { sent: socket.bytesWritten, received: socket.bytesRead });
    } catch (error) {
      if (!(error instanceof RefusalError)) throw error;
      if (stream.destroyed) return;
      this.#refuse(way, error.reason, rule);
    } finally {
      stream.removeListener("close", abort);
      this.#open.delete(open);
      // What is inside ends with what is around it, and that not by itself.
      if (isInside && !stream.writableEnded) stream.destroy();
    }
  }

  async #carry(
    { stream, name, port, opening, isInside }: Way,
    socket: Socket,
    signal: AbortSignal,
    { onBegin, onLie }: { readonly onBegin: () => void; readonly onLie: () => void },
  ): Promise<void> {
    if (opening.kind !== "http") {
      onBegin();
      if (opening.kind !== "tls") return relay(stream, socket);
      return relayTls(stream, socket, { hello: opening.hello, said: opening.bytes }, onLie);
    }
    const said = opening.bytes.subarray(opening.head.length);
    if (!isInside) {
      onBegin();
      return exchange(stream, socket, { head: opening.head, said, scrubbed: [] });
    }
    const completed = this.#secrets.complete(opening.head, name, port);
    const secure = await beginTls(socket, name, signal);
    onBegin();
    return exchange(stream, secure, { ...completed, said });
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

/** A connection is of TLS also where that ends here. */
function noted({ opening, isInside }: Way): "http" | "tls" | "tcp" {
  return isInside ? "tls" : protocolOf(opening);
}

function factsOf({ method, target, fields }: RequestHead): RequestFacts {
  return { method, target, fields: fields.map(([name]) => name.toLowerCase()) };
}

/** `GET /v1/x`, without its query, which is nobody's business. */
function describeRequest({ method, target }: { readonly method: string; readonly target: string }): string {
  return `${method} ${target.split("?", 1)[0]}`.slice(0, MAX_REQUEST_LENGTH);
}
