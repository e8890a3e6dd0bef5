import { UkiSignError, type UkiSignErrorCode } from "../errors.ts";
import { CALLS } from "../format/p11-kit.ts";
import { ATTRIBUTE, OBJECT_CLASS, RESULT, SESSION_SERIAL, TOKEN_FLAG, USER } from "../format/pkcs11.ts";
import { toHex } from "../internal/bytes.ts";
import type { PassphraseSource } from "../keys/load.ts";
import type { Connection } from "./connection.ts";
import { type AttributeValue, CallRefused } from "./message.ts";
import type { Pkcs11Uri } from "./uri.ts";

/** Most tokens that are looked at, and most objects that are told apart. */
const MAX_TOKENS = 64;
const MAX_OBJECTS = 16;

/** Room that is offered for each attribute, in bytes: more than any certificate that is accepted. */
const ATTRIBUTE_BYTES = 64 * 1024;

const KNOWN_RESULTS = new Map<bigint, string>(Object.entries(RESULT).map(([name, value]) => [value, name]));

/** A token that is there. */
export interface Token {
  readonly slot: bigint;
  readonly label: string;
  readonly manufacturer: string;
  readonly model: string;
  readonly serial: string;
  readonly flags: bigint;
}

/** A session on the one token that a URI names. */
export class Session {
  readonly connection: Connection;
  readonly token: Token;
  readonly #session: bigint;

  private constructor(connection: Connection, token: Token, session: bigint) {
    this.connection = connection;
    this.token = token;
    this.#session = session;
  }

  static async open(connection: Connection, uri: Pkcs11Uri): Promise<Session> {
    const token = chooseToken(await listTokens(connection), uri);
    const open = connection.call(CALLS.openSession, (request) => request.ulong(token.slot).ulong(SESSION_SERIAL));
    const session = (await told(open, `a session on token ${quote(token.label)}`)).ulong("the session");
    return new Session(connection, token, session);
  }

  get handle(): bigint {
    return this.#session;
  }

  /**
   * Logs in, if the token wants that. One attempt: tokens lock themselves after a few wrong ones, and the last of those is
   * never taken.
   */
  async login(pin: PassphraseSource, user: bigint = USER): Promise<void> {
    const { label, slot } = this.token;
    const flags = await tokenFlags(this.connection, slot);
    if ((flags & TOKEN_FLAG.loginRequired) === 0n) return;
    if ((flags & TOKEN_FLAG.pinLocked) !== 0n) {
      throw pinError(`expected a token that takes PINs, got ${quote(label)}, which is locked`, LOCKED_HINT);
    }
    if ((flags & TOKEN_FLAG.pinFinalTry) !== 0n) {
      const message = `expected a token with more than one attempt left, got ${quote(label)}, which one wrong PIN locks`;
      throw pinError(message, "log in with another program, such as pkcs11-tool --login; a right PIN there resets it");
    }
    // A reader with keys of its own asks for the PIN itself.
    const ownKeys = (flags & TOKEN_FLAG.protectedAuthenticationPath) !== 0n;
    const secret = ownKeys ? undefined : await pin(`token ${quote(label)}`);
    if (secret === undefined && !ownKeys) {
      throw pinError(
        `expected the PIN of token ${quote(label)}, got none`,
        "name a file with pin-source=FILE in the URI",
      );
    }
    try {
      await this.connection.call(CALLS.login, (request) => {
        request.ulong(this.#session).ulong(user);
        return secret === undefined ? request.noByteArray() : request.byteArray(new TextEncoder().encode(secret));
      });
    } catch (error) {
      if (!(error instanceof CallRefused)) throw error;
      if (error.result !== RESULT.userAlreadyLoggedIn) throw await this.#loginError(error.result);
    }
  }

  async #loginError(result: bigint): Promise<UkiSignError> {
    const { label, slot } = this.token;
    const reasons = new Map<bigint, string>([
      [RESULT.pinIncorrect, "a wrong one"],
      [RESULT.pinInvalid, "one that no PIN can be"],
      [RESULT.pinLenRange, "one that is too short or too long"],
      [RESULT.pinExpired, "one that has expired"],
      [RESULT.pinLocked, "one too late: the token has locked itself"],
      [RESULT.userPinNotInitialized, "a token that has none yet"],
    ]);
    const reason = reasons.get(result);
    if (reason === undefined) return refused(`a login on token ${quote(label)}`, result);
    const flags = await tokenFlags(this.connection, slot).catch(() => 0n);
    const last = (flags & TOKEN_FLAG.pinFinalTry) !== 0n ? "; one more wrong PIN locks it" : "";
    const hint = (flags & TOKEN_FLAG.pinLocked) !== 0n ? LOCKED_HINT : `tokens lock after a few wrong PINs${last}`;
    return pinError(`expected the PIN of token ${quote(label)}, got ${reason}`, hint);
  }

  /** The handles of objects with these attributes. */
  async find(attributes: readonly (readonly [type: number, value: bigint | Uint8Array])[]): Promise<bigint[]> {
    const what = `objects of token ${quote(this.token.label)}`;
    const search = this.connection.call(CALLS.findObjectsInit, (request) => {
      request.ulong(this.#session).u32(attributes.length);
      for (const [type, value] of attributes) {
        if (typeof value === "bigint") request.ulongAttribute(type, value);
        else request.bytesAttribute(type, value);
      }
      return request;
    });
    await told(search, what);
    const found = this.connection.call(CALLS.findObjects, (request) => request.ulong(this.#session).u32(MAX_OBJECTS));
    const objects = (await told(found, what)).ulongArray("objects");
    const end = this.connection.call(CALLS.findObjectsFinal, (request) => request.ulong(this.#session));
    await told(end, what);
    return objects;
  }

  /** Attributes of an object, in the order of the question; undefined for those that it lacks or hides. */
  async attributes(
    object: bigint,
    wanted: readonly { readonly type: number; readonly kind: "bytes" | "ulong" | "byte" }[],
  ): Promise<AttributeValue[]> {
    const call = this.connection.call(CALLS.getAttributeValue, (request) => {
      request.ulong(this.#session).ulong(object).u32(wanted.length);
      for (const { type, kind } of wanted) {
        request.u32(type).u32(kind === "bytes" ? ATTRIBUTE_BYTES : kind === "ulong" ? 8 : 1);
      }
      return request;
    });
    const answer = await told(call, "attributes");
    const values = answer.attributes(wanted);
    const result = answer.ulong("result");
    answer.end();
    const partial: readonly bigint[] = [RESULT.ok, RESULT.attributeSensitive, RESULT.attributeTypeInvalid];
    if (!partial.includes(result)) throw refused("attributes", result);
    return values;
  }

  /** The one object of a class that a URI names. */
  async findOne(
    uri: Pkcs11Uri,
    what: "private key" | "certificate",
    more: readonly [number, bigint][],
  ): Promise<bigint> {
    const kind = what === "certificate" ? OBJECT_CLASS.certificate : OBJECT_CLASS.privateKey;
    const label = uri.object === undefined ? undefined : new TextEncoder().encode(uri.object);
    const objects = await this.find([
      [ATTRIBUTE.class, kind],
      ...more,
      ...(label === undefined ? [] : ([[ATTRIBUTE.label, label]] as const)),
      ...(uri.id === undefined ? [] : ([[ATTRIBUTE.id, uri.id]] as const)),
    ]);
    const [only, ...others] = objects;
    const named = [
      ...(uri.object === undefined ? [] : [`object=${quote(uri.object)}`]),
      ...(uri.id === undefined ? [] : [`id=${toHex(uri.id)}`]),
    ];
    const wanted = `one ${what}${named.length === 0 ? "" : ` with ${named.join(" and ")}`} on token ${quote(this.token.label)}`;
    if (only === undefined) {
      const hint = "pkcs11-tool --login --list-objects shows what is on a token";
      throw new UkiSignError("UKI_SIGN_OBJECT_MISSING", `expected ${wanted}, got none`, { hint });
    }
    if (others.length === 0) return only;
    const names = await Promise.all(objects.map((object) => this.#describe(object)));
    throw new UkiSignError("UKI_SIGN_OBJECT_AMBIGUOUS", `expected ${wanted}, got several: ${names.join(", ")}`, {
      hint: "add object=LABEL or id=%01 to the URI",
    });
  }

  async #describe(object: bigint): Promise<string> {
    const [label, id] = await this.attributes(object, [
      { type: ATTRIBUTE.label, kind: "bytes" },
      { type: ATTRIBUTE.id, kind: "bytes" },
    ]);
    return `object=${quote(new TextDecoder().decode(label ?? new Uint8Array()))} id=${toHex(id ?? new Uint8Array())}`;
  }
}

const LOCKED_HINT = "the token's security officer can set a new PIN";

async function listTokens(connection: Connection): Promise<Token[]> {
  const slots = connection.call(CALLS.getSlotList, (request) => request.byte(1).u32(MAX_TOKENS));
  const tokens: Token[] = [];
  for (const slot of (await told(slots, "the list of tokens")).ulongArray("slots")) {
    const token = await readToken(connection, slot);
    // Others are places for tokens, without a name.
    if ((token.flags & TOKEN_FLAG.initialized) !== 0n) tokens.push(token);
  }
  return tokens;
}

async function readToken(connection: Connection, slot: bigint): Promise<Token> {
  const answer = await told(
    connection.call(CALLS.getTokenInfo, (request) => request.ulong(slot)),
    "a token",
  );
  const label = answer.text("label");
  const manufacturer = answer.text("manufacturer");
  const model = answer.text("model");
  const serial = answer.text("serial number");
  return { slot, label, manufacturer, model, serial, flags: answer.ulong("flags") };
}

async function tokenFlags(connection: Connection, slot: bigint): Promise<bigint> {
  return (await readToken(connection, slot)).flags;
}

function chooseToken(tokens: readonly Token[], uri: Pkcs11Uri): Token {
  const names = ["manufacturer", "model", "serial"] as const;
  const matching = tokens.filter(
    (token) =>
      (uri.token === undefined || uri.token === token.label) &&
      names.every((name) => uri[name] === undefined || uri[name] === token[name]),
  );
  const [only, ...others] = matching;
  if (only !== undefined && others.length === 0) return only;
  const wanted = uri.token === undefined ? "one token" : `one token ${quote(uri.token)}`;
  const found = (matching.length === 0 ? tokens : matching).map(({ label, serial }) => `${quote(label)} (${serial})`);
  const got = found.length === 0 ? "none" : found.join(", ");
  throw new UkiSignError("UKI_SIGN_TOKEN", `expected ${wanted}, got ${got}`, {
    hint: matching.length > 1 ? "add token=LABEL or serial=NUMBER to the URI" : "p11-kit list-modules shows all tokens",
  });
}

/** Waits for an answer; a refusal is told as one. */
export async function told<T>(
  answer: Promise<T>,
  what: string,
  code: UkiSignErrorCode = "UKI_SIGN_PKCS11",
): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof CallRefused) throw refused(what, error.result, code);
    throw error;
  }
}

/** The error about a call that the token refused. */
function refused(what: string, result: bigint, code: UkiSignErrorCode = "UKI_SIGN_PKCS11"): UkiSignError {
  const name = KNOWN_RESULTS.get(result)
    ?.replaceAll(/[A-Z]/g, (letter) => `_${letter}`)
    .toUpperCase();
  const reason = name === undefined ? `CKR 0x${result.toString(16)}` : `CKR_${name}`;
  return new UkiSignError(code, `expected ${what}, got ${reason}`);
}

function pinError(message: string, hint: string): UkiSignError {
  return new UkiSignError("UKI_SIGN_PIN", message, { hint });
}

/** A name that the token or the URI gives. */
export function quote(name: string): string {
  return JSON.stringify(name);
}
