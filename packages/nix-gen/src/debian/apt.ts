import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ExecaError, execa } from "execa";
import { NixGenError } from "../errors.ts";
import type { Progress } from "../progress.ts";
import type { DebianArchitecture } from "./architecture.ts";
import type { DebianMirror } from "./mirror.ts";

/** Keyring that signs Debian's archives, where Debian and its derivatives install it. */
export const DEBIAN_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";

/** What one private apt works on. */
export interface AptOptions {
  /** directory for lists and caches; created, and kept so that the next update is quick */
  readonly stateDirectory: string;
  readonly mirror: DebianMirror;
  /** release: `trixie` */
  readonly suite: string;
  readonly components: readonly string[];
  readonly architecture: DebianArchitecture;
  /** file with the archive's public keys */
  readonly keyring: string;
  readonly signal?: AbortSignal | undefined;
}

/** Debian's own resolver on a private state: nothing of the machine's apt is read or changed. */
export interface Apt {
  /** fetches the indexes and checks their signatures */
  update(onProgress?: Progress): Promise<void>;
  /** runs a private `apt-get`; `status` is the text of the dpkg status it shall believe */
  get(args: readonly string[], status: string): Promise<{ stdout: string; stderr: string; exitCode: number }>;
  /** every package name of the suite */
  names(): Promise<string[]>;
  /** release dates of the fetched indexes */
  releases(): Promise<{ archive: "main" | "security"; suite: string; date: string }[]>;
}

interface SuiteSource {
  readonly archive: "main" | "security";
  readonly uri: string;
  readonly suite: string;
}

/**
 * Prepares a private apt.
 *
 * @throws {NixGenError} `NIX_GEN_NO_APT` when `apt-get` is missing or the keyring can't be read.
 */
export async function openApt(options: AptOptions): Promise<Apt> {
  const { stateDirectory: root, keyring, signal } = options;
  const env = { ...process.env, APT_CONFIG: join(root, "apt.conf"), LC_ALL: "C.UTF-8" };
  const sources = suiteSources(options);
  await readFile(keyring).catch((cause) => {
    const hint = "install the package debian-archive-keyring, or name another keyring";
    throw new NixGenError("NIX_GEN_NO_APT", `expected the archive's public keys in ${keyring}`, { cause, hint });
  });
  for (const directory of ["lists/partial", "archives/partial", "etc/apt.conf.d", "etc/preferences.d"]) {
    await mkdir(join(root, directory), { recursive: true });
  }
  await writeFile(join(root, "apt.conf"), aptConfiguration(root, options.architecture));
  await writeFile(
    join(root, "sources.list"),
    sources
      .map(({ uri, suite }) => `deb [signed-by=${keyring}] ${uri} ${suite} ${options.components.join(" ")}\n`)
      .join(""),
  );

  const run = async (command: string, args: readonly string[]) => {
    try {
      const result = await execa(command, args, {
        env,
        extendEnv: false,
        reject: false,
        stdin: "ignore",
        ...(signal === undefined ? {} : { cancelSignal: signal }),
      });
      signal?.throwIfAborted();
      if (result.code === "ENOENT") throw result;
      return { stdout: result.stdout, stderr: result.stderr, exitCode: result.exitCode ?? 1 };
    } catch (cause) {
      if (!(cause instanceof ExecaError) || cause.code !== "ENOENT") throw cause;
      const hint = "packages are resolved by apt itself: run this on Debian or a derivative, or use an existing lock";
      throw new NixGenError("NIX_GEN_NO_APT", `expected the program ${command}, found none`, { cause, hint });
    }
  };

  return {
    async update(onProgress) {
      onProgress?.({ step: "reading the package indexes", item: options.suite });
      await writeFile(join(root, "status"), "");
      const result = await run("apt-get", ["update", "--error-on=any", "-q"]);
      if (result.exitCode !== 0) throw updateError(result.stderr, options.mirror);
    },
    async get(args, status) {
      await writeFile(join(root, "status"), status);
      return run("apt-get", args);
    },
    async names() {
      const { stdout } = await run("apt-cache", ["pkgnames"]);
      return stdout.split("\n").filter((name) => name !== "");
    },
    releases: () => Promise.all(sources.map((source) => readRelease(root, source))),
  };
}

function suiteSources({ mirror, suite }: AptOptions): SuiteSource[] {
  const sources: SuiteSource[] = [{ archive: "main", uri: mirror.main, suite }];
  const rolling = suite === "sid" || suite === "unstable";
  if (!rolling) sources.push({ archive: "main", uri: mirror.main, suite: `${suite}-updates` });
  if (!rolling && mirror.security !== undefined) {
    sources.push({ archive: "security", uri: mirror.security, suite: `${suite}-security` });
  }
  return sources;
}

function aptConfiguration(root: string, architecture: string): string {
  const settings: Record<string, string> = {
    Dir: `${root}/`,
    "Dir::State": root,
    "Dir::State::lists": `${root}/lists`,
    "Dir::State::status": `${root}/status`,
    "Dir::Cache": root,
    "Dir::Etc": `${root}/etc`,
    "Dir::Etc::sourcelist": `${root}/sources.list`,
    "Dir::Etc::sourceparts": "/dev/null",
    "Dir::Etc::trusted": "/dev/null",
    "Dir::Etc::trustedparts": "/dev/null",
    "Dir::Log": root,
    "Dir::Bin::methods": "/usr/lib/apt/methods",
    "APT::Architecture": architecture,
    "APT::Architectures": architecture,
    "APT::Install-Recommends": "false",
    "APT::Install-Suggests": "false",
    // The lists are private files of whoever runs this; _apt could not read them.
    "APT::Sandbox::User": "",
    "Acquire::Languages": "none",
    "Acquire::ForceHash": "SHA256",
    "Acquire::Retries": "2",
    "Acquire::http::Timeout": "20",
    "Acquire::https::Timeout": "20",
  };
  return Object.entries(settings)
    .map(([name, value]) => `${name} ${JSON.stringify(value)};\n`)
    .join("");
}

async function readRelease(root: string, { archive, uri, suite }: SuiteSource) {
  // apt's name of an index file: the URL without its scheme, with "/" as "_" (and "_" escaped).
  const name = `${uri.replace(/^\w+:\/\//, "")}/dists/${suite}/InRelease`.replaceAll("_", "%5f").replaceAll("/", "_");
  const text = await readFile(join(root, "lists", name), "utf8");
  const date = /^Date: (.*)$/m.exec(text)?.[1] ?? "";
  return { archive, suite, date: new Date(date).toISOString().replace(".000Z", "Z") };
}

function updateError(stderr: string, mirror: DebianMirror): NixGenError {
  const lines = stderr.split("\n").filter((line) => /^[EW]: /.test(line));
  const detail = lines.slice(0, 4).join("\n");
  if (/NO_PUBKEY|not signed|signature|Splitting up .* failed/i.test(detail)) {
    const message = `expected indexes signed by a key of the keyring:\n${detail}`;
    return new NixGenError("NIX_GEN_BAD_SIGNATURE", message, {
      hint: "update debian-archive-keyring, or name another",
    });
  }
  const message = `expected the package indexes at ${mirror.main}:\n${detail}`;
  return new NixGenError("NIX_GEN_MIRROR_UNREACHABLE", message, {
    hint: "check the network, or choose another mirror with LEVERET_DEBIAN_MIRROR",
  });
}
