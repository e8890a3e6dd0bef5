import { randomBytes } from "node:crypto";
import type { RequestHead } from "./format/http.ts";
import type { SecretGrant, SecretReference } from "./messages.ts";
import { matchesPath } from "./request-pattern.ts";
import { type Scrubbed, scrubbed } from "./scrubber.ts";
import { parseSecretTarget, type SecretTarget } from "./secret-target.ts";
import { RefusalError } from "./upstream.ts";

const HTTPS_PORT = 443;
/** A placeholder is as long as its value, so that neither changes the length of anything; but never so short that it is guessed. */
const MIN_PLACEHOLDER_LENGTH = 24;
const PLACEHOLDER_PREFIX = "placeholder_";
const BASIC = /^(basic +)([A-Za-z0-9+/]+={0,2})$/i;
/** What somebody would send back of which nobody could tell what is in it, or only a part of. */
const ENCODING_FIELDS = ["accept-encoding", "range", "if-range"];

interface Secret extends SecretReference {
  readonly parsed: readonly SecretTarget[];
  /** absent in a copy of a sandbox, until somebody gives it */
  readonly value?: string | undefined;
}

/** A request with its secrets, and what of them may not come back. */
export interface Completed {
  readonly head: RequestHead;
  readonly scrubbed: readonly Scrubbed[];
}

/** Secrets that a guest has placeholders of. Their values are here, and are written nowhere. */
export class Secrets {
  readonly #known = new Map<string, Secret>();

  /** @throws {SandboxError} `SANDBOX_NETWORK_RULE`. */
  constructor(references: readonly SecretReference[] = []) {
    for (const reference of references) {
      this.#known.set(reference.name, { ...reference, parsed: reference.targets.map(parseSecretTarget) });
    }
  }

  /** What is known of them besides their values. */
  get references(): readonly SecretReference[] {
    return [...this.#known.values()].map(({ name, placeholder, targets }) => ({ name, placeholder, targets }));
  }

  /** What programs of the guest find in their environment. */
  get environment(): Readonly<Record<string, string>> {
    return Object.fromEntries(this.references.map(({ name, placeholder }) => [name, placeholder]));
  }

  /** Takes the value of a secret, a new one or another one than before. @throws {SandboxError} `SANDBOX_NETWORK_RULE`. */
  grant({ name, targets, value }: SecretGrant): void {
    const placeholder = this.#known.get(name)?.placeholder ?? newPlaceholder(value.length);
    this.#known.set(name, { name, placeholder, targets, parsed: targets.map(parseSecretTarget), value });
  }

  /** Whether a value is in a text, in any form that is looked for in answers. */
  isIn(text: string): boolean {
    const forms = [...this.#known.values()].flatMap(({ value }) => (value === undefined ? [] : formsOf(value)));
    return forms.some((form) => text.includes(form));
  }

  /** Names of those that are for a host. */
  namesFor(host: string, port: number): readonly string[] {
    return this.#for(host, port).map(({ name }) => name);
  }

  /**
   * Puts secrets into a request in place of their placeholders: in values of fields, also in what Basic authorisation encodes.
   *
   * @throws {RefusalError} `secret-missing` for a placeholder whose value nobody has given.
   */
  complete(head: RequestHead, host: string, port: number = HTTPS_PORT): Completed {
    const secrets = this.#for(host, port);
    const meant = secrets.filter(({ parsed }) => parsed.some((target) => isFor(target, host, port, head.target)));
    const patterns = secrets.flatMap(({ value, placeholder }) =>
      value === undefined ? [] : formsOf(value).map((form) => scrubbed(form, placeholder)),
    );
    const fields: (readonly [string, string])[] = [];
    for (const [name, before] of head.fields) {
      if (ENCODING_FIELDS.includes(name.toLowerCase())) continue;
      const after = meant.reduce((text, secret) => put(secret, text), before);
      if (after !== before && BASIC.test(before)) patterns.push(scrubbed(tokenOf(after), tokenOf(before)));
      fields.push([name, after]);
    }
    fields.push(["Accept-Encoding", "identity"]);
    return { head: { ...head, fields }, scrubbed: patterns };
  }

  #for(host: string, port: number): readonly Secret[] {
    return [...this.#known.values()].filter(({ parsed }) => parsed.some((target) => isFor(target, host, port)));
  }
}

function isFor(target: SecretTarget, host: string, port: number, path?: string): boolean {
  const isHost = target.isWildcard ? host.endsWith(`.${target.host}`) : host === target.host;
  const isPort = (target.port ?? HTTPS_PORT) === port;
  return isHost && isPort && (path === undefined || target.path === undefined || matchesPath(target.path, path, false));
}

function put({ name, placeholder, value }: Secret, text: string): string {
  const [, scheme, token] = BASIC.exec(text) ?? [];
  const plain = token === undefined ? text : Buffer.from(token, "base64").toString("latin1");
  if (!plain.includes(placeholder)) return text;
  if (value === undefined) throw new RefusalError("secret-missing", `expected the value of ${name}, got none`);
  // No `$` of a value is special.
  const whole = plain.split(placeholder).join(value);
  return token === undefined ? whole : `${scheme}${Buffer.from(whole, "latin1").toString("base64")}`;
}

function tokenOf(field: string): string {
  return BASIC.exec(field)?.[2] ?? field;
}

/** How a server may write a value that it was sent. */
function formsOf(value: string): readonly string[] {
  const json = JSON.stringify(value).slice(1, -1);
  const forms = [value, json, json.replaceAll("/", "\\/"), encodeURIComponent(value), htmlOf(value)];
  return [...new Set(forms)];
}

function htmlOf(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}

function newPlaceholder(length: number): string {
  const random = Math.max(length, MIN_PLACEHOLDER_LENGTH) - PLACEHOLDER_PREFIX.length;
  return `${PLACEHOLDER_PREFIX}${randomBytes(random).toString("hex").slice(0, random)}`;
}
