import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { SandboxError } from "../errors.ts";
import type { RuleText } from "../network/rules.ts";
import type { Sandbox } from "../sandbox.ts";
import { networkCases } from "./network-cases.ts";
import { decodeHeard, encodeProbe, type Heard, PROBE_PROGRAM, type Probe, textOf } from "./probe.ts";
import { workspaceCases } from "./workspace-cases.ts";

/** What the attempts are made against. */
export interface Surroundings {
  /** rules that allow */
  readonly allow: readonly RuleText[];
  /** a server of this host's loopback that nobody inside may reach */
  readonly canary: {
    readonly host: string;
    readonly port: number;
    /** says so if somebody has */
    readonly reached: () => string | undefined;
  };
  /** the project */
  readonly directory: string;
  /** name of a directory in it for what is tried there */
  readonly place: string;
  /** a file of the host that is not in it, and what is in that, and in a hidden file of the project */
  readonly outside: string;
  readonly token: string;
  /** what makes names that nobody has asked for before */
  readonly nonce: string;
}

/** Something that must not be possible. */
export interface ProofCase {
  readonly name: string;
  /** what is tried, in words */
  readonly tried: string;
  readonly probes: readonly Probe[];
  /** @returns What has got through, in words; undefined when nothing has. */
  readonly judge: (heard: readonly Heard[]) => string | undefined;
}

/** What became of one case. */
export interface ProofResult {
  readonly name: string;
  readonly tried: string;
  readonly passed: boolean;
  /** what has got through */
  readonly found?: string | undefined;
}

/** What became of all of them. */
export interface SandboxProof {
  readonly passed: boolean;
  readonly cases: readonly ProofResult[];
}

/**
 * Tries to get out of a sandbox as it is, with its rules, its workspace and its secrets: whatever succeeds is a case that has
 * not passed. A directory `.leveret-prove-…` is in the project meanwhile, the log of the network has the attempts afterwards.
 *
 * @throws As {@link Sandbox.exec}; {SandboxError} `SANDBOX_ENDED` when an attempt has ended the sandbox.
 * @example
 * const { passed, cases } = await prove(vm);
 */
export async function prove(
  sandbox: Sandbox,
  { signal }: { readonly signal?: AbortSignal | undefined } = {},
): Promise<SandboxProof> {
  const { rules, secrets } = await sandbox.net.report();
  const { directory } = sandbox.state;
  const [nonce, token] = [randomBytes(8).toString("hex"), randomBytes(16).toString("hex")];
  const place = `.leveret-prove-${nonce}`;
  const away = await mkdtemp(join(tmpdir(), "leveret-prove-"));
  const outside = join(away, "outside");
  const visitors: string[] = [];
  const canary = createServer(({ url }, response) => {
    visitors.push(url ?? "");
    response.end(token);
  });
  canary.listen(0, "127.0.0.1");
  try {
    await once(canary, "listening");
    await writeFile(outside, token, { mode: 0o600 });
    await mkdir(join(directory, place));
    await writeFile(join(directory, place, ".env"), token);
    await symlink(outside, join(directory, place, "of-host"));
    const surroundings: Surroundings = {
      allow: rules.allow,
      canary: {
        host: "canary.prove.invalid",
        port: (canary.address() as AddressInfo).port,
        reached: () => (visitors.length > 0 ? "a server of the host's loopback was reached" : undefined),
      },
      directory,
      place,
      outside,
      token,
      nonce,
    };
    const isIntact = async (): Promise<boolean> => (await readFile(outside, "utf8").catch(() => "")) === token;
    const cases = [...networkCases(surroundings), ...workspaceCases(surroundings), secretCase(secrets)];
    const heard = await runProbes(
      sandbox,
      cases.flatMap(({ probes }) => probes),
      signal,
    );
    const results: ProofResult[] = [];
    for (const { name, tried, probes, judge } of cases) {
      const own = heard.splice(0, probes.length);
      let found = judge(own);
      if (name === "secrets" && (await sandbox.net.reveals(own.map(textOf).join("\n"))))
        found = "a value is in the machine";
      if (name === "links" && !(await isIntact())) found = "a file of the host outside of the project was changed";
      results.push({ name, tried, passed: found === undefined, found });
    }
    return { passed: results.every(({ passed }) => passed), cases: results };
  } finally {
    canary.close();
    await rm(away, { recursive: true, force: true });
    await rm(join(directory, place), { recursive: true, force: true });
  }
}

/** Programs of a machine may know placeholders of secrets, and no value. */
function secretCase(secrets: readonly { readonly name: string; readonly placeholder: string }[]): ProofCase {
  const names = secrets.map(({ name }) => name);
  return {
    name: "secrets",
    tried: `values of ${names.join(", ") || "secrets, of which there are none"}, in what all programs have in their environment and arguments, in /etc and /run, and in what a program hears that says its placeholders`,
    probes: [
      { kind: "shell", script: names.map((name) => `printf '%s\\n' "$${name}"`).join("\n") },
      { kind: "shell", script: "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline /etc/* /run/* 2>&- | head -c 131072" },
    ],
    judge: ([said = {}]) => {
      const lines = textOf(said).split("\n");
      const wrong = secrets.find(({ placeholder }, index) => lines[index] !== placeholder);
      return wrong && `${wrong.name} is something else than its placeholder`;
    },
  };
}

async function runProbes(sandbox: Sandbox, probes: readonly Probe[], signal?: AbortSignal): Promise<Heard[]> {
  signal?.throwIfAborted();
  const program = await sandbox.spawn(["/usr/bin/perl", "-e", PROBE_PROGRAM], { cwd: "/" });
  signal?.addEventListener("abort", program.close, { once: true });
  try {
    program.stdin.end(probes.map((probe) => `${encodeProbe(probe)}\n`).join(""));
    const heard: Heard[] = [];
    for await (const line of createInterface({ input: Readable.from(program.stdout) })) heard.push(decodeHeard(line));
    signal?.throwIfAborted();
    if (heard.length === probes.length) return heard;
    const message = `expected ${probes.length} attempts to come to an end, got ${heard.length}`;
    throw new SandboxError("SANDBOX_ENDED", message, { sandbox: sandbox.name });
  } finally {
    signal?.removeEventListener("abort", program.close);
    program.close();
  }
}
