import { resolve } from "node:path";
import { wholeFiles } from "@leveret/block-source";
import { SandboxError } from "../errors.ts";
import type { Environment } from "../places.ts";
import { MAX_SECRET_LENGTH, MIN_SECRET_LENGTH, type SecretGrant } from "./messages.ts";
import { parseSecretTarget } from "./secret-target.ts";

const NAME = /^[A-Za-z_][A-Za-z0-9_]{0,63}$/;
const SOURCE = /^(?<kind>env|file):(?<where>.+)$/;
const VALUE = /^[\x20-\x7e]+$/;

/** Where values of secrets come from. */
export interface SecretSources {
  readonly env: Environment;
  /** what relative paths begin at */
  readonly directory: string;
  readonly signal?: AbortSignal | undefined;
}

/** A secret as it is written: by where its value is, and never the value itself. */
interface WrittenSecret {
  readonly name: string;
  readonly source:
    | { readonly kind: "env"; readonly variable: string }
    | { readonly kind: "file"; readonly path: string };
  readonly targets: readonly string[];
}

/**
 * Reads the values of secrets.
 *
 * @param texts - `NAME=env:VARIABLE@HOST[:PORT][/PATH][,…]`, `NAME=file:PATH@…`; a file may be `/dev/stdin`.
 * @throws {SandboxError} `SANDBOX_NETWORK_SECRET`, which never says what was found.
 */
export async function readSecrets(texts: readonly string[], sources: SecretSources): Promise<readonly SecretGrant[]> {
  const grants: SecretGrant[] = [];
  for (const { name, source, targets } of texts.map(parseSecret)) {
    const value = await readValue(name, source, sources);
    if (!VALUE.test(value) || value.length < MIN_SECRET_LENGTH || value.length > MAX_SECRET_LENGTH) {
      throw wrong(
        `${MIN_SECRET_LENGTH} to ${MAX_SECRET_LENGTH} characters of ASCII in one line for ${name}`,
        `${value.length} characters`,
      );
    }
    grants.push({ name, targets: [...targets], value });
  }
  return grants;
}

function parseSecret(text: string): WrittenSecret {
  const [name = "", ...rest] = text.split("=");
  const written = rest.join("=");
  const at = written.lastIndexOf("@");
  const found = SOURCE.exec(written.slice(0, Math.max(at, 0)))?.groups;
  // What is wrong may be the value itself, which nobody is to read.
  if (!NAME.test(name) || found === undefined) {
    throw wrong(
      "NAME=env:VARIABLE@HOST or NAME=file:PATH@HOST",
      NAME.test(name) ? `something else for ${name}` : "something else",
    );
  }
  const { kind, where = "" } = found;
  const targets = written.slice(at + 1).split(",");
  for (const target of targets) parseSecretTarget(target);
  if (kind === "env") return { name, source: { kind, variable: where }, targets };
  return { name, source: { kind: "file", path: where }, targets };
}

const readWhole = wholeFiles((_problem, message, { path }) => {
  return new SandboxError("SANDBOX_NETWORK_SECRET", message, { path });
});

async function readValue(
  name: string,
  source: WrittenSecret["source"],
  { env, directory, signal }: SecretSources,
): Promise<string> {
  if (source.kind === "env") {
    const value = env[source.variable];
    if (value === undefined) throw wrong(`the variable ${source.variable} for ${name}`, "none");
    return value;
  }
  const bytes = await readWhole(resolve(directory, source.path), { maxBytes: 2 * MAX_SECRET_LENGTH, signal });
  return Buffer.from(bytes)
    .toString("latin1")
    .replace(/\r?\n$/, "");
}

function wrong(expected: string, got: string): SandboxError {
  return new SandboxError("SANDBOX_NETWORK_SECRET", `expected ${expected}, got ${got}`, {
    hint: "for example GH_TOKEN=env:GH_TOKEN@api.github.com; a value itself is never taken",
  });
}
