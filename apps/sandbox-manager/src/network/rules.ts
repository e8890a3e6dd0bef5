import { isIP } from "node:net";
import { SandboxError } from "../errors.ts";
import { normaliseName } from "./names.ts";
import { matchesRequest, parseRequestPattern, type RequestFacts, type RequestPattern } from "./request-pattern.ts";

/** Ports of a rule that names none: HTTP and HTTPS. */
const WEB_PORTS: readonly number[] = [80, 443];
const MAX_PORT = 0xffff;
/** `[tcp://]HOST[:PORT][=ADDRESS[:PORT]]` */
const RULE = /^(?:(?<scheme>tcp):\/\/)?(?<host>[^:=/@[\]\s]+)(?::(?<port>\d{1,5}))?(?:=(?<target>\S+))?$/;
const TARGET = /^(?:\[(?<v6>[0-9a-fA-F:.]+)\]|(?<v4>[\d.]+))(?::(?<port>\d{1,5}))?$/;

/** Where a rule leads instead of to what its name resolves to. */
export interface RuleTarget {
  readonly address: string;
  /** default the one that the guest asks for */
  readonly port?: number | undefined;
}

/** A rule, as it is understood. */
export interface Rule {
  /** as it was written */
  readonly text: string;
  /** who has said so: `--allow`, `preset npm`, the path of a file … */
  readonly source: string;
  /** a name, without `*.` */
  readonly host: string;
  /** whether it is about all names below `host`, and not about that itself; all names of all when `host` is empty */
  readonly isWildcard: boolean;
  /** default {@link WEB_PORTS} */
  readonly port?: number | undefined;
  /** `web`: HTTP whose Host, or TLS whose server name, is the name. `tcp`: whatever is said. */
  readonly protocol: "web" | "tcp";
  readonly target?: RuleTarget | undefined;
  /** HTTP requests that it is about; all, and whatever else goes through TLS, unless given */
  readonly request?: RequestPattern | undefined;
}

/** A rule as it is written, and who has said so. */
export type RuleText = Pick<Rule, "text" | "source">;

/**
 * Parses a rule.
 *
 * @param text - `registry.example`, `*.example.org:8443`, `*`, `tcp://git.example:22`, `api.test=127.0.0.1:3000`,
 *   `api.example GET,HEAD /v1/*`.
 * @param source - Who has said so.
 * @throws {SandboxError} `SANDBOX_NETWORK_RULE`.
 */
export function parseRule(text: string, source: string): Rule {
  const [where = "", ...what] = text.split(" ");
  const found = RULE.exec(where)?.groups;
  if (found?.host === undefined) {
    throw wrong("[tcp://]HOST[:PORT][=ADDRESS[:PORT]] [METHOD,…] [PATH]", text, source);
  }
  const isWildcard = found.host === "*" || found.host.startsWith("*.");
  const host = found.host === "*" ? "" : normaliseName(isWildcard ? found.host.slice(2) : found.host);
  const port = portOf(found.port, text, source);
  if (found.scheme !== undefined && port === undefined) throw wrong("a port after tcp://HOST", text, source);
  const target = found.target === undefined ? undefined : targetOf(found.target, text, source);
  if (found.scheme !== undefined && what.length > 0) throw wrong("no method and no path after tcp://", text, source);
  const request = what.length === 0 ? undefined : parseRequestPattern(what.join(" "));
  return {
    text,
    source,
    host,
    isWildcard,
    port,
    protocol: found.scheme === undefined ? "web" : "tcp",
    target,
    request,
  };
}

function targetOf(written: string, text: string, source: string): RuleTarget {
  const found = TARGET.exec(written)?.groups;
  const address = found?.v6 ?? found?.v4 ?? "";
  if (isIP(address) !== (found?.v6 === undefined ? 4 : 6)) {
    throw wrong("an address after =, such as 127.0.0.1:3000 or [::1]:3000", text, source);
  }
  return { address, port: portOf(found?.port, text, source) };
}

function portOf(written: string | undefined, text: string, source: string): number | undefined {
  if (written === undefined) return undefined;
  const port = Number(written);
  if (port < 1 || port > MAX_PORT) throw wrong("a port", text, source);
  return port;
}

function wrong(expected: string, text: string, source: string): SandboxError {
  const message = `expected ${expected}, got ${JSON.stringify(text)} (${source})`;
  return new SandboxError("SANDBOX_NETWORK_RULE", message, {
    hint: "for example registry.example, *.example.org:8443 or api.test=127.0.0.1:3000",
  });
}

/** Whether a rule is about a name. */
function isAbout(rule: Rule, name: string): boolean {
  if (!rule.isWildcard) return rule.host === name;
  return rule.host === "" || name.endsWith(`.${rule.host}`);
}

/** What rules say of a name and a port. */
export type Verdict =
  | { readonly allowed: true; readonly rule: Rule }
  | { readonly allowed: false; readonly reason: "denied"; readonly rule: Rule }
  | {
      readonly allowed: false;
      readonly reason: "not-allowed" | "port-not-allowed" | "request-not-allowed";
      readonly rule?: undefined;
    };

/** Rules: whatever is not allowed is refused, and so is what is denied, whatever allows it. */
export class RuleSet {
  #allow: readonly Rule[] = [];
  #deny: readonly Rule[] = [];

  constructor(rules: { readonly allow: readonly RuleText[]; readonly deny: readonly RuleText[] }) {
    this.#allow = rules.allow.map(({ text, source }) => parseRule(text, source));
    this.#deny = rules.deny.map(({ text, source }) => parseRule(text, source));
  }

  get texts(): { readonly allow: readonly RuleText[]; readonly deny: readonly RuleText[] } {
    const textsOf = (rules: readonly Rule[]): RuleText[] => rules.map(({ text, source }) => ({ text, source }));
    return { allow: textsOf(this.#allow), deny: textsOf(this.#deny) };
  }

  /** Adds a rule, and takes back one that denies the same. @throws {SandboxError} `SANDBOX_NETWORK_RULE`. */
  allow(text: string, source: string): void {
    const rule = parseRule(text, source);
    this.#deny = this.#deny.filter((each) => each.text !== text);
    this.#allow = [...this.#allow.filter((each) => each.text !== text), rule];
  }

  /** Denies, and takes back a rule that allows the same. @throws {SandboxError} `SANDBOX_NETWORK_RULE`. */
  deny(text: string, source: string): void {
    const rule = parseRule(text, source);
    this.#allow = this.#allow.filter((each) => each.text !== text);
    this.#deny = [...this.#deny.filter((each) => each.text !== text), rule];
  }

  /** Whether there are rules that are about some requests only. */
  get hasLimits(): boolean {
    return [...this.#allow, ...this.#deny].some(({ request }) => request !== undefined);
  }

  /** Whether a name is allowed on any port. */
  knows(name: string): boolean {
    const isDenied = this.#deny.some(
      (rule) => rule.port === undefined && rule.request === undefined && isAbout(rule, name),
    );
    return !isDenied && this.#allow.some((rule) => isAbout(rule, name));
  }

  /** The rules for which requests to a host have to be looked at. */
  limits(name: string, port: number): { readonly allow: readonly Rule[]; readonly deny: readonly Rule[] } {
    const limiting = (rules: readonly Rule[]): Rule[] => rules.filter(({ request }) => request !== undefined);
    return { allow: limiting(this.#fitting(name, port)), deny: limiting(this.#denying(name, port)) };
  }

  /**
   * What becomes of a connection, or of a request. Rules of one name go before those of many, the ones for a port before the
   * others, and those for some requests before those for all.
   *
   * @param request - Without it, what matters is whether anything at all may be said.
   */
  verdict(name: string, port: number, request?: RequestFacts): Verdict {
    const denied = this.#denying(name, port).find(({ request: pattern }) =>
      pattern === undefined ? true : request !== undefined && matchesRequest(pattern, request, true),
    );
    if (denied !== undefined) return { allowed: false, reason: "denied", rule: denied };
    const fitting = this.#fitting(name, port);
    const rank = ({ isWildcard, port: own, request: pattern }: Rule): number =>
      (isWildcard ? 4 : 0) + (own === undefined ? 2 : 0) + (pattern === undefined ? 1 : 0);
    const [rule] = fitting
      .filter(({ request: pattern }) => request === undefined || matchesRequest(pattern ?? {}, request, false))
      .sort((one, other) => rank(one) - rank(other));
    if (rule !== undefined) return { allowed: true, rule };
    if (fitting.length > 0) return { allowed: false, reason: "request-not-allowed" };
    const isKnown = this.#allow.some((each) => isAbout(each, name));
    return { allowed: false, reason: isKnown ? "port-not-allowed" : "not-allowed" };
  }

  #fitting(name: string, port: number): readonly Rule[] {
    return this.#allow.filter(
      (rule) => isAbout(rule, name) && (rule.port === undefined ? WEB_PORTS.includes(port) : rule.port === port),
    );
  }

  #denying(name: string, port: number): readonly Rule[] {
    return this.#deny.filter((rule) => isAbout(rule, name) && (rule.port ?? port) === port);
  }
}
