import { createRequire } from "node:module";
import { VmmError, type VmmErrorCode } from "../errors.ts";
import { NATIVE_FILE } from "../native-file.ts";

/** The functions that native code has; each is called by one of `src/native.ts` only, which knows its types. */
export const NATIVE_FUNCTIONS = [
  "version",
  "decodeVmcb",
  "encodeVmcb",
  "checkVmcb",
  "decodeExit",
  "decodeInstruction",
  "buildNestedTables",
  "walkNestedTables",
  "planLinux",
] as const;

type NativeFunction = (typeof NATIVE_FUNCTIONS)[number];
/** Native code, as it was loaded. */
export type Binding = Readonly<Record<NativeFunction, (...args: readonly unknown[]) => unknown>>;

/** Codes of the errors that native code throws. */
const NATIVE_CODES: readonly VmmErrorCode[] = [
  "VMM_BAD_ARGUMENT",
  "VMM_TRUNCATED",
  "VMM_BAD_INSTRUCTION",
  "VMM_BAD_MAPPING",
  "VMM_BAD_TABLES",
  "VMM_BAD_KERNEL",
];

const require = createRequire(import.meta.url);
/** Package with native code for this platform. */
const PLATFORM_PACKAGE = `@leveret/vmm-native-${process.platform}-${process.arch}-gnu`;

let loaded: Binding | undefined;

/** Loads native code: the platform's package, or what this checkout has built. */
export function loadBinding(candidates: readonly string[] = [PLATFORM_PACKAGE, NATIVE_FILE]): Binding {
  const causes: unknown[] = [];
  for (const candidate of candidates) {
    try {
      return require(candidate) as Binding;
    } catch (error) {
      causes.push(error);
    }
  }
  throw new VmmError("VMM_NO_BINDING", `expected native code in ${candidates.join(" or ")}, got none`, {
    hint: `install ${PLATFORM_PACKAGE}; in a checkout, install Rust (rustup.rs) and build again`,
    cause: new AggregateError(causes),
  });
}

/** Calls a native function; what it throws becomes a {@link VmmError}. */
export function callNative(name: NativeFunction, ...args: readonly unknown[]): unknown {
  loaded ??= loadBinding();
  try {
    return loaded[name](...args);
  } catch (error) {
    const code = (error as { code?: unknown }).code;
    const known = NATIVE_CODES.find((candidate) => candidate === code);
    if (known === undefined) throw error;
    throw new VmmError(known, (error as Error).message, { cause: error });
  }
}
