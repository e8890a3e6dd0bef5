/**
 * As much of a WebAssembly assembler as one function over one memory takes: byte loops over unaligned data, which
 * JavaScript can do byte by byte only.
 *
 * @see WebAssembly Core Specification 2.0, section 5, "Binary Format"
 */

/** Encoded instructions, nested as they were written. */
export type Code = readonly (number | Code)[];

const I32 = 0x7f;
const VOID = 0x40;
const MAGIC = [0x00, 0x61, 0x73, 0x6d];
const VERSION = [0x01, 0x00, 0x00, 0x00];
const SECTION = { type: 1, function: 3, memory: 5, export: 7, code: 10 } as const;

/** Reads and writes of memory at the address on the stack plus `offset`; no alignment is promised. */
const access =
  (code: number) =>
  (offset = 0): Code => [code, 0, unsigned(offset)];

export const wasm = {
  get: (local: number): Code => [0x20, unsigned(local)],
  set: (local: number): Code => [0x21, unsigned(local)],
  tee: (local: number): Code => [0x22, unsigned(local)],
  i32: (value: number): Code => [0x41, signed(value)],
  load8: access(0x2d),
  load16: access(0x2f),
  load32: access(0x28),
  load64: access(0x29),
  store8: access(0x3a),
  store16: access(0x3b),
  store32: access(0x36),
  store64: access(0x37),
  eqz: [0x45],
  eq: [0x46],
  ne: [0x47],
  ltS: [0x48],
  ltU: [0x49],
  gtU: [0x4b],
  geU: [0x4f],
  add: [0x6a],
  sub: [0x6b],
  mul: [0x6c],
  divU: [0x6e],
  and: [0x71],
  or: [0x72],
  shl: [0x74],
  shrU: [0x76],
  /** How many bytes of two 64-bit words are the same before the first that is not. */
  sameBytes: [0x85, 0x7a, 0xa7, 0x41, 3, 0x76],
  fill: [0xfc, 0x0b, 0x00],
  return: [0x0f],
  /** Leaves, or starts again, the construct that is `depth` levels up. */
  br: (depth: number): Code => [0x0c, unsigned(depth)],
  brIf: (depth: number): Code => [0x0d, unsigned(depth)],
  block: (...body: Code): Code => [0x02, VOID, ...body, 0x0b],
  loop: (...body: Code): Code => [0x03, VOID, ...body, 0x0b],
  if: (body: Code, otherwise?: Code): Code => [
    0x04,
    VOID,
    ...body,
    ...(otherwise === undefined ? [] : [0x05, ...otherwise]),
    0x0b,
  ],
};

/** The parts of the JavaScript interface that are needed here; Node's types have none of it. */
interface WebAssemblyInterface {
  readonly Module: new (code: Uint8Array) => object;
  readonly Instance: new (module: object) => { readonly exports: unknown };
}

export interface WasmMemory {
  readonly buffer: ArrayBuffer;
  grow(pages: number): number;
}

const { WebAssembly: engine } = globalThis as unknown as { readonly WebAssembly?: WebAssemblyInterface };

/** Compiles a module, which threads can share; undefined where there is no WebAssembly, as in `node --jitless`. */
export function compileWasm(options: Parameters<typeof wasmModule>[0]): object | undefined {
  return engine === undefined ? undefined : new engine.Module(wasmModule(options));
}

/** Makes an instance of a module, whose exports are what the caller knows they are. */
export function instantiateWasm<Exports>(module: object): Exports | undefined {
  return engine === undefined ? undefined : (new engine.Instance(module).exports as Exports);
}

/** Encodes a module that exports its `memory` and one function, all of whose values are 32-bit integers. */
function wasmModule(options: {
  readonly name: string;
  /** length of the memory at the start in units of `64 KiB` */
  readonly pages?: number;
  readonly parameters: number;
  readonly locals: number;
  readonly body: Code;
}): Uint8Array<ArrayBuffer> {
  const { name, pages = 1, parameters, locals, body } = options;
  const signature = [0x60, parameters, ...Array.from({ length: parameters }, () => I32), 1, I32];
  const code = flatten([1, unsigned(locals), I32, ...body, 0x0b]);
  return Uint8Array.from([
    ...MAGIC,
    ...VERSION,
    ...section(SECTION.type, [1, ...signature]),
    ...section(SECTION.function, [1, 0]),
    ...section(SECTION.memory, [1, 0, ...unsigned(pages)]),
    ...section(SECTION.export, [2, ...text("memory"), 2, 0, ...text(name), 0, 0]),
    ...section(SECTION.code, [1, ...unsigned(code.length), ...code]),
  ]);
}

function section(id: number, content: readonly number[]): number[] {
  return [id, ...unsigned(content.length), ...content];
}

function text(value: string): number[] {
  return [value.length, ...Buffer.from(value, "latin1")];
}

function flatten(code: Code): number[] {
  return code.flatMap((part) => (typeof part === "number" ? part : flatten(part)));
}

/** LEB128. */
function unsigned(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 0x7f; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80);
  return [...bytes, rest];
}

/** LEB128 with a sign. */
function signed(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 0x3f || rest < -0x40; rest >>= 7) bytes.push((rest & 0x7f) | 0x80);
  return [...bytes, rest & 0x7f];
}
