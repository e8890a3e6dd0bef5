// Inputs made of other inputs. All that is random comes from one seed, so a run can be repeated.

const INTERESTING = [0, 1, 2, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 255, 256, 511, 512, 1023, 1024, 4095, 4096];
const LARGE = [0x7fff, 0x8000, 0xffff, 0x1_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff];
const HUGE = [
  0x1_0000_0000n,
  0x1f_ffff_ffff_ffffn,
  0x7fff_ffff_ffff_ffffn,
  0x8000_0000_0000_0000n,
  0xffff_ffff_ffff_ffffn,
];
/** Most changes of one input. */
const MAX_CHANGES = 6;

/** Numbers that look random: mulberry32. */
export class Random {
  #state;

  /** @param seed - 32 bits. */
  constructor(seed) {
    this.#state = seed >>> 0;
  }

  /** @returns A whole number in 0..below-1. */
  below(below) {
    this.#state = (this.#state + 0x6d2b_79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  }

  pick(list) {
    return list[this.below(list.length)];
  }
}

/**
 * Changes an input in one to six places.
 *
 * @param random - Where the changes come from.
 * @param input - Not changed itself.
 * @param other - Another input, from which pieces may come.
 * @param hot - Ranges `[start, end]` in which most changes are made, such as the headers of a large image.
 */
export function mutate(random, input, other, hot) {
  let bytes = new Uint8Array(input);
  const changes = 1 + random.below(MAX_CHANGES);
  for (let change = 0; change < changes && bytes.byteLength > 0; change += 1) {
    bytes = random.pick(CHANGES)(random, bytes, other, hot);
  }
  return bytes;
}

/** A position, mostly where it matters. */
function place(random, bytes, hot) {
  if (hot.length > 0 && random.below(8) > 0) {
    const [start, end] = random.pick(hot);
    const at = start + random.below(Math.max(1, end - start));
    if (at < bytes.byteLength) return at;
  }
  return random.below(bytes.byteLength);
}

function flipBit(random, bytes, _other, hot) {
  bytes[place(random, bytes, hot)] ^= 1 << random.below(8);
  return bytes;
}

function setByte(random, bytes, _other, hot) {
  bytes[place(random, bytes, hot)] = random.below(256);
  return bytes;
}

/** A number of 1 to 8 bytes, of either order, aligned as fields are. */
function setNumber(random, bytes, _other, hot) {
  const size = random.pick([1, 2, 4, 8]);
  const at = Math.floor(place(random, bytes, hot) / size) * size;
  if (at + size > bytes.byteLength) return bytes;
  const view = new DataView(bytes.buffer);
  const little = random.below(4) > 0;
  const near = (old) => (random.below(2) === 0 ? old + random.pick([-1, 1, -8, 8, 512]) : undefined);
  const value = random.pick([INTERESTING, LARGE, [bytes.byteLength, bytes.byteLength - 1, bytes.byteLength + 1]]);
  if (size === 1) bytes[at] = near(bytes[at]) ?? random.pick(INTERESTING);
  else if (size === 2) view.setUint16(at, near(view.getUint16(at, little)) ?? random.pick(value), little);
  else if (size === 4) view.setUint32(at, near(view.getUint32(at, little)) ?? random.pick(value), little);
  else view.setBigUint64(at, random.below(2) === 0 ? random.pick(HUGE) : BigInt(random.pick(value)), little);
  return bytes;
}

function move(random, bytes, _other, hot) {
  const length = 1 + random.below(Math.min(64, bytes.byteLength));
  const from = random.below(bytes.byteLength - length + 1);
  const to = Math.min(place(random, bytes, hot), bytes.byteLength - length);
  bytes.copyWithin(to, from, from + length);
  return bytes;
}

function fill(random, bytes, _other, hot) {
  const at = place(random, bytes, hot);
  bytes.fill(random.pick([0, 0xff, 0x41]), at, at + 1 + random.below(64));
  return bytes;
}

function splice(random, bytes, other) {
  if (other.byteLength === 0) return bytes;
  const length = 1 + random.below(Math.min(other.byteLength, bytes.byteLength));
  const from = random.below(other.byteLength - length + 1);
  bytes.set(other.subarray(from, from + length), random.below(bytes.byteLength - length + 1));
  return bytes;
}

function cut(random, bytes) {
  return bytes.slice(0, random.below(bytes.byteLength + 1));
}

function grow(random, bytes, other) {
  const at = random.below(bytes.byteLength + 1);
  const piece = other.subarray(0, random.below(Math.min(other.byteLength, 256) + 1));
  const longer = new Uint8Array(bytes.byteLength + piece.byteLength);
  longer.set(bytes.subarray(0, at));
  longer.set(piece, at);
  longer.set(bytes.subarray(at), at + piece.byteLength);
  return longer;
}

// What keeps the length comes more often: most formats say where things are.
const CHANGES = [
  flipBit,
  flipBit,
  setByte,
  setByte,
  setNumber,
  setNumber,
  setNumber,
  setNumber,
  move,
  fill,
  splice,
  cut,
  grow,
];
