import { SandboxError } from "../errors.ts";

const LABEL = /^(?!-)[a-z0-9_-]{1,63}(?<!-)$/;
const MAX_NAME_LENGTH = 253;
/** A name that ends so is an address in the eyes of some. @see WHATWG URL, "ends in a number checker" */
const NUMBER = /^(?:\d+|0x[0-9a-f]*)$/;

/** Whether a name, in lower case, can be that of a host: letters, digits, hyphens; and no address. */
export function isHostName(name: string): boolean {
  const labels = name.split(".");
  return (
    name.length <= MAX_NAME_LENGTH && labels.every((label) => LABEL.test(label)) && !NUMBER.test(labels.at(-1) ?? "")
  );
}

/** The first address, and how many there are, for names: 198.18.1.0 to 198.19.255.255. */
const FIRST = 0xc612_0100;
const MAX_NAMES = 4096;
/** Leads to a refusal that can be read, for names that no rule allows. */
export const REFUSED_ADDRESS = 0xc612_0005;

/** Names may lose their addresses that nobody has asked for or gone to for so long, in `milliseconds`. */
const KEPT_MS = 600_000;

/**
 * Addresses that stand for names, one for each. They do not change, but when all are taken, the name that was used longest ago
 * makes room: a guest that goes to its address then says another name than the one it leads to, and is refused.
 */
export class NameTable {
  readonly #names: string[] = [];
  /** indexes of names, the one used last at the end */
  readonly #used = new Map<string, { readonly index: number; readonly at: number }>();

  /** @param names - Those that have addresses already, in their order. */
  constructor(names: readonly string[] = []) {
    for (const name of names) this.addressOf(name);
  }

  get names(): readonly string[] {
    return this.#names;
  }

  /** The address of a name, a new one if need be; undefined when there are too many. */
  addressOf(name: string): number | undefined {
    const index = this.#used.get(name)?.index ?? this.#free();
    if (index === undefined) return undefined;
    this.#names[index] = name;
    this.#touch(name, index);
    return FIRST + index;
  }

  /** The name that an address stands for, which is used. */
  nameOf(address: number): string | undefined {
    const name = this.#names[address - FIRST];
    if (name !== undefined) this.#touch(name, address - FIRST);
    return name;
  }

  #touch(name: string, index: number): void {
    this.#used.delete(name);
    this.#used.set(name, { index, at: Date.now() });
  }

  #free(): number | undefined {
    if (this.#names.length < MAX_NAMES) return this.#names.length;
    const [oldest] = this.#used;
    if (oldest === undefined || Date.now() - oldest[1].at < KEPT_MS) return undefined;
    this.#used.delete(oldest[0]);
    return oldest[1].index;
  }
}

/** Makes a host's name what it is in DNS: lower case, ASCII, without a dot at the end. */
export function normaliseName(text: string): string {
  const name = /^[\x20-\x7e]*$/.test(text) ? text.toLowerCase() : ascii(text);
  const plain = name.endsWith(".") ? name.slice(0, -1) : name;
  if (isHostName(plain)) return plain;
  throw new SandboxError("SANDBOX_NETWORK_RULE", `expected the name of a host, got ${JSON.stringify(text)}`);
}

function ascii(text: string): string {
  // What is not a name comes back empty, or throws.
  return URL.canParse(`http://${text}/`) ? new URL(`http://${text}/`).hostname : "";
}
