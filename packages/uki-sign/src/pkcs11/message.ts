import { UkiSignError } from "../errors.ts";
import { type CALLS, ERROR_MESSAGE, NO_ARRAY } from "../format/p11-kit.ts";
import { concat, copyBytes, viewOf } from "../internal/bytes.ts";

/** One of the messages of the remoting protocol. */
export type Call = (typeof CALLS)[keyof typeof CALLS];

/** A call that the other side refused. */
export class CallRefused extends Error {
  /** CKR_* */
  readonly result: bigint;

  constructor(result: bigint) {
    super(`expected CKR_OK, got 0x${result.toString(16)}`);
    this.result = result;
  }
}

/** Puts the fields of a request one after the other. */
export class RequestWriter {
  readonly #parts: Uint8Array[] = [];

  constructor({ number, request }: Call) {
    this.u32(number).#counted(new TextEncoder().encode(request));
  }

  byte(value: number): this {
    this.#parts.push(Uint8Array.of(value));
    return this;
  }

  u32(value: number): this {
    const bytes = new Uint8Array(4);
    viewOf(bytes).setUint32(0, value);
    this.#parts.push(bytes);
    return this;
  }

  ulong(value: bigint): this {
    const bytes = new Uint8Array(8);
    viewOf(bytes).setBigUint64(0, value);
    this.#parts.push(bytes);
    return this;
  }

  /** `ay` */
  byteArray(bytes: Uint8Array): this {
    return this.byte(1).#counted(bytes);
  }

  /** `ay` without an array: a NULL pointer to the module */
  noByteArray(): this {
    return this.byte(0).u32(0);
  }

  /** bytes with their length in front that are none */
  noArray(): this {
    return this.u32(NO_ARRAY);
  }

  /** one attribute of `aA` whose value is a CK_ULONG */
  ulongAttribute(type: number, value: bigint): this {
    return this.u32(type).byte(1).u32(8).ulong(value);
  }

  /** one attribute of `aA` whose value is bytes */
  bytesAttribute(type: number, value: Uint8Array): this {
    return this.u32(type).byte(1).u32(value.length).#counted(value);
  }

  bytes(): Uint8Array {
    return concat(...this.#parts);
  }

  #counted(bytes: Uint8Array): this {
    this.u32(bytes.length);
    this.#parts.push(copyBytes(bytes));
    return this;
  }
}

/** An attribute as the token gave it; undefined when it has none, or does not show it. */
export type AttributeValue = Uint8Array | undefined;

/** Takes the fields of an answer apart. */
export class AnswerReader {
  readonly #bytes: Uint8Array;
  #at = 0;

  /**
   * @throws {CallRefused} when the answer says that the call failed.
   * @throws {UkiSignError} `UKI_SIGN_PKCS11` when it is none to this call.
   */
  constructor({ number, answer }: Call, bytes: Uint8Array) {
    this.#bytes = bytes;
    const got = this.u32("the message's number");
    const signature = new TextDecoder("latin1").decode(this.counted("the message's fields") ?? new Uint8Array());
    if (got === ERROR_MESSAGE && signature === "u") {
      const result = this.ulong("the reason");
      this.end();
      throw new CallRefused(result);
    }
    if (got === number && signature === answer) return;
    throw this.#invalid(`message ${number} with fields ${JSON.stringify(answer)}`, `message ${got}`);
  }

  byte(what: string): number {
    return this.#take(1, what)[0] ?? 0;
  }

  u32(what: string): number {
    return viewOf(this.#take(4, what)).getUint32(0);
  }

  ulong(what: string): bigint {
    return viewOf(this.#take(8, what)).getBigUint64(0);
  }

  /** bytes with their length in front; undefined for none */
  counted(what: string): Uint8Array | undefined {
    const length = this.u32(`length of ${what}`);
    return length === NO_ARRAY ? undefined : copyBytes(this.#take(length, what));
  }

  /** `s`: text padded with blanks */
  text(what: string): string {
    return new TextDecoder().decode(this.counted(what) ?? new Uint8Array()).replace(/[ \0]+$/, "");
  }

  /** `ay` */
  byteArray(what: string): Uint8Array {
    const present = this.byte(what) !== 0;
    const bytes = present ? this.counted(what) : undefined;
    if (bytes !== undefined) return bytes;
    throw this.#invalid(what, "only its length");
  }

  /** `au` */
  ulongArray(what: string): bigint[] {
    const present = this.byte(what) !== 0;
    const count = this.u32(`count of ${what}`);
    if (!present && count > 0) throw this.#invalid(what, "only their number");
    // Before anything is allocated: each takes 8 bytes of what is left.
    if (count > (this.#bytes.length - this.#at) / 8) throw this.#invalid(what, `${count} of them in less bytes`);
    return Array.from({ length: count }, () => this.ulong(what));
  }

  /** `aA` with the attributes of these types, in this order; values are bytes, or 8 bytes of a CK_ULONG, or one byte. */
  attributes(types: readonly { readonly type: number; readonly kind: "bytes" | "ulong" | "byte" }[]): AttributeValue[] {
    const count = this.u32("count of attributes");
    if (count !== types.length) throw this.#invalid(`${types.length} attributes`, String(count));
    return types.map(({ type, kind }) => {
      const got = this.u32("type of an attribute");
      if (got !== type) throw this.#invalid(`attribute 0x${type.toString(16)}`, `0x${got.toString(16)}`);
      if (this.byte("validity of an attribute") === 0) return undefined;
      const length = this.u32("length of an attribute");
      if (kind === "bytes") return this.counted("an attribute");
      const value = copyBytes(this.#take(kind === "ulong" ? 8 : 1, "an attribute"));
      // An attribute that the token has and that is empty is written as a number all the same.
      return length === 0 ? undefined : value;
    });
  }

  end(): void {
    if (this.#at === this.#bytes.length) return;
    throw this.#invalid("the end of the answer", `${this.#bytes.length - this.#at} more bytes`);
  }

  #take(length: number, what: string): Uint8Array {
    const left = this.#bytes.length - this.#at;
    if (length > left) throw this.#invalid(`${length} bytes for ${what}`, `${left} bytes`);
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  #invalid(expected: string, got: string): UkiSignError {
    return new UkiSignError("UKI_SIGN_PKCS11", `expected ${expected} from p11-kit, got ${got}`, { offset: this.#at });
  }
}
