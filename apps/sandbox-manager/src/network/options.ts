import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { promisify } from "node:util";
import * as z from "zod";
import { SandboxError } from "../errors.ts";
import { PRESETS_FILE } from "../presets-file.ts";
import type { NetworkRules } from "./messages.ts";
import { parseRule, type RuleText } from "./rules.ts";

const PORTS: Readonly<Record<string, string>> = { "http:": "80", "https:": "443" };
const MAX_FILE_BYTES = 1024 * 1024;

const rulesFileSchema = z.strictObject({
  allow: z.array(z.string()).default([]),
  deny: z.array(z.string()).default([]),
  presets: z.array(z.string()).default([]),
  secrets: z.array(z.string()).default([]),
});

const presetsSchema = z.strictObject({
  presets: z.record(
    z.string(),
    z.strictObject({
      description: z.string(),
      allow: z.array(z.string()),
      url: z.array(z.string()).min(1).optional(),
    }),
  ),
});
/** Limit for a program that says where something is, in `milliseconds`. */
const URL_TIMEOUT_MS = 20_000;

/** What a sandbox may reach; nothing unless something is given. */
export interface SandboxNetworkOptions {
  /** rules: `registry.example`, `*.example.org:8443`, `tcp://git.example:22`, `api.test=127.0.0.1:3000` */
  readonly allow?: readonly string[] | undefined;
  /** what is refused although something allows it */
  readonly deny?: readonly string[] | undefined;
  /** names of lists of rules: {@link readPresets} */
  readonly presets?: readonly string[] | undefined;
  /**
   * Secrets that the host puts into requests, by where their values are: `TOKEN=env:VARIABLE@api.example`,
   * `TOKEN=file:PATH@git.example/owner/repository.git/*`. What is after `@` is what they are for.
   */
  readonly secrets?: readonly string[] | undefined;
  /** files with `{ "allow": [], "deny": [], "presets": [], "secrets": [] }`; relative ones are below the project */
  readonly files?: readonly string[] | undefined;
}

/** What options come to. */
export interface NetworkSetup {
  readonly rules: NetworkRules;
  /** as they are written, all files included */
  readonly secrets: readonly string[];
}

/** A list of rules that has a name. */
export interface NetworkPreset {
  readonly description: string;
  readonly allow: readonly string[];
  /** program of the host, with its arguments, that prints the URL of one host more: what this user has set it to */
  readonly url?: readonly string[] | undefined;
}

/** The presets that come with this package, by name. @throws {SandboxError} `SANDBOX_NETWORK_RULE`. */
export async function readPresets(): Promise<Readonly<Record<string, NetworkPreset>>> {
  return (await readJson(PRESETS_FILE, presetsSchema)).presets;
}

/**
 * What options come to: rules, and secrets whose values are not read yet.
 *
 * @param directory - The project.
 * @throws {SandboxError} `SANDBOX_NETWORK_RULE`.
 */
export async function networkSetup(options: SandboxNetworkOptions, directory: string): Promise<NetworkSetup> {
  const sources = [{ ...rulesFileSchema.parse({}), ...defined(options), source: "an option" }];
  for (const file of options.files ?? []) {
    const path = resolve(directory, file);
    sources.push({ ...(await readJson(path, rulesFileSchema)), source: path });
  }
  const texts = (list: readonly string[], source: string): RuleText[] => list.map((text) => ({ text, source }));
  const allow = sources.flatMap((each) => texts(each.allow, each.source));
  const deny = sources.flatMap((each) => texts(each.deny, each.source));
  const names = new Set(sources.flatMap(({ presets }) => presets));
  const presets = names.size === 0 ? {} : await readPresets();
  for (const name of names) {
    const preset = Object.hasOwn(presets, name) ? presets[name] : undefined;
    if (preset === undefined) {
      const known = Object.keys(presets).join(", ");
      throw new SandboxError(
        "SANDBOX_NETWORK_RULE",
        `expected one of the presets ${known}, got ${JSON.stringify(name)}`,
        {
          path: PRESETS_FILE,
        },
      );
    }
    allow.push(...texts([...preset.allow, ...(await ruleOfUrl(preset))], `preset ${name}`));
  }
  // What is wrong is said before anything is started.
  for (const { text, source } of [...allow, ...deny]) parseRule(text, source);
  return { rules: { allow, deny }, secrets: sources.flatMap(({ secrets }) => secrets) };
}

/** Where a program of the host says that something is, as a rule. */
async function ruleOfUrl({ url: [program, ...args] = [] }: NetworkPreset): Promise<string[]> {
  if (program === undefined) return [];
  try {
    // Not in the project, which the guest may write to.
    const { stdout } = await promisify(execFile)(program, args, { cwd: "/", timeout: URL_TIMEOUT_MS });
    const { protocol, hostname, port } = new URL(stdout.trim());
    return [`${hostname}:${port === "" ? (PORTS[protocol] ?? "") : port}`];
  } catch (cause) {
    const message = `expected a URL from ${[program, ...args].join(" ")}, got: ${(cause as Error).message}`;
    throw new SandboxError("SANDBOX_NETWORK_RULE", message, { cause });
  }
}

function defined(options: SandboxNetworkOptions): z.output<typeof rulesFileSchema> {
  const { allow = [], deny = [], presets = [], secrets = [] } = options;
  return { allow: [...allow], deny: [...deny], presets: [...presets], secrets: [...secrets] };
}

async function readJson<T>(path: string, schema: z.ZodType<T>): Promise<T> {
  let value: unknown;
  try {
    const text = await readFile(path, "utf8");
    if (text.length > MAX_FILE_BYTES) throw new Error(`more than ${MAX_FILE_BYTES} characters`);
    value = JSON.parse(text);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new SandboxError("SANDBOX_NETWORK_RULE", `expected a file of rules, got: ${reason}`, { path, cause });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new SandboxError("SANDBOX_NETWORK_RULE", `expected a file of rules, got: ${z.prettifyError(parsed.error)}`, {
    path,
  });
}
