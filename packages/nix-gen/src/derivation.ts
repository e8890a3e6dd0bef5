import { z } from "zod";
import { NixGenError } from "./errors.ts";
import { attrs, type Binding, bind, comment } from "./expression/bindings.ts";
import { builtin, call } from "./expression/syntax.ts";
import { toSri } from "./hash.ts";
import { isNixExpr, type NixExpr, nodeOf } from "./internal/node.ts";
import { checkOptions, zRecord, zText } from "./internal/options.ts";
import { quote } from "./internal/text.ts";
import { assertStoreName, MAX_STORE_NAME_LENGTH } from "./store-name.ts";

/** What {@link derivation} builds. */
export interface DerivationOptions {
  /** name, and the end of the store path */
  readonly name: string;
  /** where it can be built: `x86_64-linux`, or `builtin` for Nix's own builders */
  readonly system: string | NixExpr;
  /** program that builds it: a string with a derivation in it, or `builtin:…` */
  readonly builder: string | NixExpr;
  /** arguments of the builder, without its name */
  readonly args?: readonly (string | NixExpr)[];
  /** environment of the builder */
  readonly env?: Readonly<Record<string, string | NixExpr>>;
  /** names of what is built, the default first; `["out"]` when not given */
  readonly outputs?: readonly string[];
  /** SHA-256 of the one output, known beforehand: 64 hexadecimal digits or `sha256-…` */
  readonly outputHash?: string;
  /** what the hash is of: the file's bytes, or a NAR archive of a tree (or of a program) */
  readonly outputHashMode?: "flat" | "recursive";
  /** names in `env` that are handed over as files, for values too long for an environment variable */
  readonly passAsFile?: readonly string[];
  /** names of variables taken from the environment of Nix; only with `outputHash` */
  readonly impureEnvVars?: readonly string[];
  /** features that the building machine must have, such as `kvm` */
  readonly requiredSystemFeatures?: readonly string[];
  /** whether sending it to another machine isn't worth it; `false` when not given */
  readonly preferLocalBuild?: boolean;
  /** whether a binary cache may be asked for it; `true` when not given */
  readonly allowSubstitutes?: boolean;
  /** comment above the name */
  readonly comment?: string;
}

const STRINGS = z.array(z.string()).readonly();

const SCHEMA = z.strictObject({
  name: z.string(),
  system: zText,
  builder: zText,
  args: z.array(zText).readonly().default([]),
  env: zRecord(zText).default({}),
  outputs: z.array(z.string()).min(1).readonly().default(["out"]),
  outputHash: z.string().optional(),
  outputHashMode: z.enum(["flat", "recursive"]).optional(),
  passAsFile: STRINGS.default([]),
  impureEnvVars: STRINGS.default([]),
  requiredSystemFeatures: STRINGS.default([]),
  preferLocalBuild: z.boolean().default(false),
  allowSubstitutes: z.boolean().default(true),
  comment: z.string().optional(),
});

type Checked = z.output<typeof SCHEMA>;

// Attributes that mean something to Nix itself; as environment variables they would do more than set a variable.
const RESERVED = new Set(
  `name system builder args outputs outputHash outputHashAlgo outputHashMode passAsFile impureEnvVars
  requiredSystemFeatures preferLocalBuild allowSubstitutes allowedReferences allowedRequisites disallowedReferences
  disallowedRequisites exportReferencesGraph outputChecks unsafeDiscardReferences __structuredAttrs __ignoreNulls
  __contentAddressed __impure __noChroot __impureHostDeps __propagatedImpureHostDeps __sandboxProfile
  __darwinAllowLocalNetworking __json`.split(/\s+/),
);

// Set by Nix after the derivation's own environment, which is lost without a word.
const OVERRIDDEN = new Set(["NIX_BUILD_TOP", "TMPDIR", "TEMPDIR", "TMP", "TEMP", "PWD", "NIX_LOG_FD", "TERM"]);

/** Longest argument or environment variable that Linux takes, with its name, `=` and the final NUL, in `bytes`. */
const MAX_ENV_BYTES = 131_072;

/**
 * A derivation: a build step of Nix, as a call of `builtins.derivation`. It needs no nixpkgs.
 *
 * @param options - What to run, where, and what comes of it.
 * @returns An expression whose value becomes the first output's store path when put into a string.
 * @throws {NixGenError} `NIX_GEN_BAD_OPTIONS` for options of the wrong shape, reserved or overridden variables and
 *   contradictions, `NIX_GEN_BAD_STORE_NAME` for names of the derivation or its outputs, `NIX_GEN_BAD_HASH`.
 * @see Nix manual, "Derivations" and "Advanced attributes"
 * @example
 * derivation({ name: "hello", system: "x86_64-linux", builder: str`${ref("busybox")}/bin/sh`, args: ["-c", "echo hi > $out"] })
 */
export function derivation(options: DerivationOptions): NixExpr {
  const checked = checkOptions(SCHEMA, options, "derivation");
  assertStoreName(checked.name, "name");
  assertOutputs(checked);
  assertConsistent(checked);
  for (const [name, value] of Object.entries(checked.env)) assertVariable(name, value, checked);
  for (const [index, arg] of checked.args.entries()) assertArgument(arg, `args[${index}]`);
  return call(builtin("derivation"), attrs([...ownBindings(checked), ...Object.entries(checked.env).map(envBinding)]));
}

/** What {@link fixedOutput} fetches. */
export interface FixedOutputOptions {
  /** name, and the end of the store path; {@link toStoreName} makes one of a file name */
  readonly name: string;
  /** where the file is: an `https:`, `http:`, `ftp:` or `file:` URL */
  readonly url: string | NixExpr;
  /** SHA-256 of the file (of the NAR archive when `executable` or `unpack`): 64 hexadecimal digits or `sha256-…` */
  readonly hash: string;
  /** whether the file becomes a program */
  readonly executable?: boolean;
  /** whether the file is a NAR archive (possibly compressed) to be unpacked */
  readonly unpack?: boolean;
  /** comment above the name */
  readonly comment?: string;
}

const FIXED_SCHEMA = z.strictObject({
  name: z.string(),
  url: zText,
  hash: z.string(),
  executable: z.boolean().default(false),
  unpack: z.boolean().default(false),
  comment: z.string().optional(),
});

const PROXY_VARIABLES = ["http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"];

/**
 * A file from the network with a known SHA-256, fetched by Nix itself: no nixpkgs, no curl, no shell. The hash decides
 * the store path, so where it comes from may change without anything being rebuilt.
 *
 * @param options - Where it is and what it must be.
 * @returns An expression whose value becomes the file's store path when put into a string.
 * @throws {NixGenError} `NIX_GEN_BAD_OPTIONS`, `NIX_GEN_BAD_STORE_NAME`, `NIX_GEN_BAD_HASH`.
 * @see Nix 2.8 `src/libstore/builtins/fetchurl.cc`
 * @example
 * fixedOutput({ name: "hello.deb", url: str`${ref("mirror")}/pool/main/h/hello/hello_2.10-3_amd64.deb`, hash: sha256 })
 */
export function fixedOutput(options: FixedOutputOptions): NixExpr {
  const checked = checkOptions(FIXED_SCHEMA, options, "fixedOutput");
  if (typeof checked.url === "string" && !/^(https?|ftp|file):\/\/./.test(checked.url)) {
    const message = `expected an https, http, ftp or file URL, got ${quote(checked.url)}`;
    throw new NixGenError("NIX_GEN_BAD_OPTIONS", message, { path: "url" });
  }
  assertStoreName(checked.name, "name");
  const bindings: Binding[] = [
    ...(checked.comment === undefined ? [] : [comment(checked.comment)]),
    bind("name", checked.name),
    bind("system", "builtin"),
    bind("builder", "builtin:fetchurl"),
    bind("url", checked.url),
    ...hashBindings(checked.hash, checked.executable || checked.unpack ? "recursive" : "flat"),
    ...(checked.executable ? [bind("executable", true)] : []),
    ...(checked.unpack ? [bind("unpack", true)] : []),
    bind("preferLocalBuild", true),
    bind("impureEnvVars", PROXY_VARIABLES),
  ];
  return call(builtin("derivation"), attrs(bindings));
}

function ownBindings(checked: Checked): Binding[] {
  const { args, outputs, outputHash, outputHashMode, passAsFile, impureEnvVars, requiredSystemFeatures } = checked;
  return [
    ...(checked.comment === undefined ? [] : [comment(checked.comment)]),
    bind("name", checked.name),
    bind("system", checked.system),
    bind("builder", checked.builder),
    ...(args.length === 0 ? [] : [bind("args", args)]),
    ...(outputs.length === 1 && outputs[0] === "out" ? [] : [bind("outputs", outputs)]),
    ...(outputHash === undefined ? [] : hashBindings(outputHash, outputHashMode ?? "flat")),
    ...(passAsFile.length === 0 ? [] : [bind("passAsFile", passAsFile)]),
    ...(impureEnvVars.length === 0 ? [] : [bind("impureEnvVars", impureEnvVars)]),
    ...(requiredSystemFeatures.length === 0 ? [] : [bind("requiredSystemFeatures", requiredSystemFeatures)]),
    ...(checked.preferLocalBuild ? [bind("preferLocalBuild", true)] : []),
    ...(checked.allowSubstitutes ? [] : [bind("allowSubstitutes", false)]),
  ];
}

function hashBindings(hash: string, mode: "flat" | "recursive"): Binding[] {
  return [bind("outputHash", toSri(hash)), bind("outputHashAlgo", "sha256"), bind("outputHashMode", mode)];
}

function envBinding([name, value]: readonly [string, string | NixExpr]): Binding {
  return bind(name, value);
}

function assertOutputs({ name, outputs }: Checked): void {
  const seen = new Set<string>();
  for (const [index, output] of outputs.entries()) {
    const path = `outputs[${index}]`;
    assertStoreName(output, path);
    if (output === "drv" || seen.has(output) || RESERVED.has(output)) {
      const problem = seen.has(output) ? "is there twice" : "has a meaning of its own";
      throw new NixGenError("NIX_GEN_BAD_OPTIONS", `expected distinct output names, got ${output}, which ${problem}`, {
        path,
      });
    }
    seen.add(output);
    // The name of every output's path but `out` ends in the output's name; 4 is the length of `.drv`.
    if (output !== "out" && name.length + 1 + output.length > MAX_STORE_NAME_LENGTH + 4) {
      const message = `expected a name that leaves room for its output, got ${quote(`${name}-${output}`)}`;
      throw new NixGenError("NIX_GEN_BAD_STORE_NAME", message, { path });
    }
  }
}

function assertConsistent(checked: Checked): void {
  const { outputHash, outputHashMode, outputs, impureEnvVars, passAsFile, env } = checked;
  const fail = (message: string, path: string): never => {
    throw new NixGenError("NIX_GEN_BAD_OPTIONS", message, { path });
  };
  if (outputHash === undefined) {
    if (outputHashMode !== undefined) fail("expected outputHash beside outputHashMode, got none", "outputHashMode");
    if (impureEnvVars.length > 0) fail("expected outputHash beside impureEnvVars, got none", "impureEnvVars");
  } else if (outputs.length > 1 || outputs[0] !== "out") {
    fail(`expected the one output "out" beside outputHash, got ${outputs.map(quote).join(", ")}`, "outputs");
  }
  const missing = passAsFile.find((name) => !Object.hasOwn(env, name));
  if (missing !== undefined) fail(`expected a variable of env, got ${quote(missing)}`, "passAsFile");
}

function assertVariable(name: string, value: string | NixExpr, { outputs, passAsFile }: Checked): void {
  const path = `env.${name}`;
  const fail = (message: string, hint?: string): never => {
    throw new NixGenError("NIX_GEN_BAD_OPTIONS", message, { path, hint });
  };
  if (name === "" || /[=\0]/.test(name)) fail(`expected the name of an environment variable, got ${quote(name)}`);
  if (RESERVED.has(name)) fail(`expected an ordinary variable, got ${name}, which is an option of derivations`);
  if (outputs.includes(name)) fail(`expected an ordinary variable, got ${name}, which holds an output's path`);
  if (OVERRIDDEN.has(name)) fail(`expected an ordinary variable, got ${name}, which Nix sets itself`);
  const size = literalBytes(value);
  if (size + Buffer.byteLength(name) + 2 > MAX_ENV_BYTES && !passAsFile.includes(name)) {
    const message = `expected at most ${MAX_ENV_BYTES} bytes with the name, got a value of ${size}`;
    fail(message, `Linux can't start a program with it; add ${quote(name)} to passAsFile`);
  }
}

function assertArgument(arg: string | NixExpr, path: string): void {
  const size = literalBytes(arg);
  if (size + 1 <= MAX_ENV_BYTES) return;
  throw new NixGenError("NIX_GEN_BAD_OPTIONS", `expected at most ${MAX_ENV_BYTES - 1} bytes, got ${size}`, {
    path,
    hint: "Linux can't start a program with it; give it as a variable of env that is in passAsFile",
  });
}

/** Bytes of a value that are certain before evaluation. */
function literalBytes(value: string | NixExpr): number {
  if (!isNixExpr(value)) return Buffer.byteLength(value);
  const node = nodeOf(value);
  if (node.kind === "block") return Buffer.byteLength(node.text);
  if (node.kind !== "string") return 0;
  return node.parts.reduce((sum, part) => sum + (typeof part === "string" ? Buffer.byteLength(part) : 0), 0);
}
