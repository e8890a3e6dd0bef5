import { mkdir, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { NixGenError, type NixGenErrorCode } from "../errors.ts";
import { fileError, writeWhole } from "../internal/files.ts";
import { quote } from "../internal/text.ts";
import type { Progress } from "../progress.ts";
import type { DebianArchitecture } from "./architecture.ts";
import type { DebianMirror } from "./mirror.ts";

/** Keyring that signs Debian's archives, where Debian and its derivatives install it. */
export const DEBIAN_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";

/** What one private apt works on. */
export interface AptOptions {
  /** directory for lists and caches, absolute; created, and kept so that the next update is quick */
  readonly stateDirectory: string;
  readonly mirror: DebianMirror;
  /** release: `trixie`; `trixie-backports` is that with newer packages where there are any */
  readonly suite: string;
  readonly components: readonly string[];
  readonly architecture: DebianArchitecture;
  /** file with the archive's public keys, absolute */
  readonly keyring: string;
  /** environment: `PATH`, and proxies */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly signal?: AbortSignal | undefined;
}

/** Debian's own resolver on a private state: nothing of the machine's apt is read or changed. */
export interface Apt {
  /** fetches the indexes and checks their signatures */
  update(onProgress?: Progress): Promise<void>;
  /** runs a private `apt-get`; `status` is the text of the dpkg status it shall believe */
  get(args: readonly string[], status: string): Promise<AptResult>;
  /** every package name of the suite */
  names(): Promise<string[]>;
  /** release dates of the fetched indexes */
  releases(): Promise<{ archive: "main" | "security"; suite: string; date: string }[]>;
}

/** How a call of apt ended. */
export interface AptResult {
  readonly stdout: string;
  readonly stderr: string;
  readonly exitCode: number;
}

interface SuiteSource {
  readonly archive: "main" | "security";
  readonly uri: string;
  readonly suite: string;
}

const MAX_COMPLAINTS = 4;

// The first descriptor that apt doesn't use itself.
const STATUS_FD = 3;

/**
 * Prepares a private apt.
 *
 * @throws {NixGenError} `NIX_GEN_NO_APT` when the keyring can't be read (and, from its methods, when `apt-get` is
 *   missing), `NIX_GEN_BAD_OPTIONS` for a keyring that apt can't be told of, `NIX_GEN_IO`, `NIX_GEN_DISK_FULL`.
 */
export async function openApt(options: AptOptions): Promise<Apt> {
  const { stateDirectory: root, keyring, signal } = options;
  const sources = suiteSources(options);
  await assertKeyring(keyring);
  try {
    for (const directory of ["lists/partial", "archives/partial", "etc/apt.conf.d", "etc/preferences.d"]) {
      await mkdir(join(root, directory), { recursive: true });
    }
  } catch (cause) {
    throw fileError(root, cause);
  }
  const lines = sources.map(
    ({ uri, suite }) => `deb [signed-by=${keyring}] ${uri} ${suite} ${options.components.join(" ")}\n`,
  );
  await writeWhole(join(root, "apt.conf"), aptConfiguration(options.architecture));
  await writeWhole(join(root, "sources.list"), lines.join(""));

  const env = { ...definedEntries(options.env), APT_CONFIG: join(root, "apt.conf"), LC_ALL: "C.UTF-8" };
  const run = async (command: string, args: readonly string[], onStatus?: (line: string) => void) => {
    const child = execa(command, args, {
      cwd: root,
      env,
      extendEnv: false,
      reject: false,
      stdio: ["ignore", "pipe", "pipe", ...(onStatus === undefined ? [] : ["pipe" as const])],
      ...(signal === undefined ? {} : { cancelSignal: signal }),
    });
    if (onStatus !== undefined) {
      for await (const line of child.iterable({ from: `fd${STATUS_FD}` })) onStatus(line);
    }
    const result = await child;
    signal?.throwIfAborted();
    if (result.code === "ENOENT") {
      const hint = "packages are resolved by apt itself: run this on Debian or a derivative, or use an existing lock";
      throw new NixGenError("NIX_GEN_NO_APT", `expected the program ${command}, found none`, { cause: result, hint });
    }
    return { stdout: result.stdout, stderr: result.stderr, exitCode: result.exitCode ?? 1 };
  };

  return {
    async update(onProgress) {
      const step = "reading the package indexes";
      onProgress?.({ step, item: options.suite });
      await writeWhole(join(root, "status"), "");
      const args = ["update", "--error-on=any", "-q", "-o", `APT::Status-Fd=${STATUS_FD}`];
      const result = await run("apt-get", args, (line) => {
        const [, percent, item] = STATUS_LINE.exec(line) ?? [];
        if (percent !== undefined) onProgress?.({ step, item: `${Math.round(Number(percent))} % · ${item ?? ""}` });
      });
      if (result.exitCode !== 0) throw updateError(result, options.mirror);
    },
    async get(args, status) {
      await writeWhole(join(root, "status"), status);
      // Without being asked apt takes nothing from backports.
      const target = BACKPORTS.test(options.suite) ? ["--target-release", options.suite] : [];
      return run("apt-get", [...target, ...args]);
    },
    async names() {
      const { stdout } = await run("apt-cache", ["pkgnames"]);
      return stdout.split("\n").filter((name) => name !== "");
    },
    releases: async () => {
      const lists = await readdir(join(root, "lists"));
      return Promise.all(sources.map((source) => readRelease(join(root, "lists"), lists, source)));
    },
  };
}

// dlstatus:FILE:PERCENT:DESCRIPTION, as in apt's README.progress-reporting
const STATUS_LINE = /^dlstatus:\d+:([\d.]+):(.*)$/;

async function assertKeyring(keyring: string): Promise<void> {
  // What sources.list(5) splits, quotes or decodes.
  if (/[\s[\]",%]/.test(keyring)) {
    const message = `expected a keyring in a path without blanks and any of [ ] " , %, got ${quote(keyring)}`;
    throw new NixGenError("NIX_GEN_BAD_OPTIONS", message, { path: "keyring", hint: "copy the keyring elsewhere" });
  }
  await readFile(keyring).catch((cause) => {
    const hint = "install the package debian-archive-keyring, or name another keyring";
    throw new NixGenError("NIX_GEN_NO_APT", `expected the archive's public keys in ${keyring}`, { cause, hint });
  });
}

const BACKPORTS = /-backports$/;

function suiteSources({ mirror, suite: wanted }: AptOptions): SuiteSource[] {
  // Backports are an addition to their release.
  const suite = wanted.replace(BACKPORTS, "");
  const sources: SuiteSource[] = [{ archive: "main", uri: mirror.main, suite }];
  if (wanted !== suite) sources.push({ archive: "main", uri: mirror.main, suite: wanted });
  const rolling = suite === "sid" || suite === "unstable";
  if (!rolling) sources.push({ archive: "main", uri: mirror.main, suite: `${suite}-updates` });
  if (!rolling && mirror.security !== undefined) {
    sources.push({ archive: "security", uri: mirror.security, suite: `${suite}-security` });
  }
  return sources;
}

// Everything is relative to the working directory: apt.conf has no way to write a path with a double quote in it, and
// what comes after one is configuration, hooks that are run included.
function aptConfiguration(architecture: DebianArchitecture): string {
  const settings: Record<string, string> = {
    Dir: "./",
    "Dir::State": "./",
    "Dir::State::lists": "./lists",
    "Dir::State::status": "./status",
    "Dir::Cache": "./",
    "Dir::Etc": "./etc",
    "Dir::Etc::sourcelist": "./sources.list",
    "Dir::Etc::sourceparts": "/dev/null",
    "Dir::Etc::trusted": "/dev/null",
    "Dir::Etc::trustedparts": "/dev/null",
    "Dir::Log": "./",
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
    .map(([name, value]) => `${name} "${value}";\n`)
    .join("");
}

async function readRelease(directory: string, lists: readonly string[], { archive, suite }: SuiteSource) {
  // apt's name of an index file is its URL with "/" as "_"; files of other sources are removed by every update.
  const name = lists.find((list) => /_(In)?Release$/.test(list) && list.includes(`_dists_${suite}_`));
  if (name === undefined) throw new Error(`bug: apt keeps no release file of ${suite} in ${directory}`);
  const date = /^Date: (.*)$/m.exec(await readFile(join(directory, name), "utf8"))?.[1] ?? "";
  const milliseconds = Date.parse(date);
  if (Number.isNaN(milliseconds)) {
    throw new NixGenError("NIX_GEN_BAD_INDEX", `expected a release file of ${suite} with its date, got ${quote(date)}`);
  }
  return { archive, suite, date: new Date(milliseconds).toISOString().replace(".000Z", "Z") };
}

interface UpdateFailure {
  readonly pattern: RegExp;
  readonly code: NixGenErrorCode;
  readonly message: string;
  readonly hint: string;
}

const UPDATE_FAILURES: readonly UpdateFailure[] = [
  {
    pattern: /No space left on device|not have enough free space|Disk quota exceeded/i,
    code: "NIX_GEN_DISK_FULL",
    message: "expected room on the disk for the package indexes, got none",
    hint: "free some space",
  },
  {
    pattern: /Could not get lock|Unable to lock/,
    code: "NIX_GEN_BUSY",
    message: "expected nobody else to be resolving packages in this directory",
    hint: "wait for the other one to end",
  },
  {
    pattern:
      /Could not (connect|resolve)|Temporary failure|Connection (refused|failed|timed out)|timed out|Unable to connect/i,
    code: "NIX_GEN_MIRROR_UNREACHABLE",
    message: "expected the package indexes",
    hint: "check the network, or choose another mirror with LEVERET_DEBIAN_MIRROR",
  },
  {
    pattern: /does not have a Release file|no longer has a Release file/,
    code: "NIX_GEN_NO_RELEASE",
    message: "expected that release on the mirror",
    hint: "check the release's name; a mirror drops releases that are no longer supported",
  },
  {
    pattern: /NO_PUBKEY|not signed|signature|Splitting up .* failed|Clearsigned file|is expired|not valid yet/i,
    code: "NIX_GEN_BAD_SIGNATURE",
    message: "expected indexes that are signed by a key of the keyring and still valid",
    hint: "update the package debian-archive-keyring, name another keyring, or check the clock",
  },
  {
    pattern: /Hash Sum mismatch|unexpected size|Unable to parse package file|Encountered a section with no Package/i,
    code: "NIX_GEN_BAD_INDEX",
    message: "expected indexes as the archive's release file has them",
    hint: "the mirror may be in the middle of an update: try again later, or choose another with LEVERET_DEBIAN_MIRROR",
  },
];

/** Errors and warnings of apt, each with the lines that belong to it. */
export function aptComplaints(stderr: string): string[] {
  const complaints: string[] = [];
  for (const line of stderr.split("\n")) {
    // apt 3 writes the words out, and explains itself in indented lines.
    if (/^(E|W|Error|Warning): /.test(line)) complaints.push(line);
    else if (/^\s+\S/.test(line) && complaints.length > 0) complaints.push(line);
  }
  return complaints;
}

function updateError({ stderr }: AptResult, mirror: DebianMirror): NixGenError {
  const complaints = aptComplaints(stderr);
  const detail = complaints.slice(0, MAX_COMPLAINTS).map((line) => `  ${line}`);
  for (const { pattern, code, message, hint } of UPDATE_FAILURES) {
    if (!complaints.some((line) => pattern.test(line))) continue;
    return new NixGenError(code, [`${message}:`, ...detail].join("\n"), { hint, logTail: complaints });
  }
  const message = [`expected the package indexes at ${mirror.main}:`, ...detail].join("\n");
  return new NixGenError("NIX_GEN_MIRROR_UNREACHABLE", message, {
    hint: "check the network, or choose another mirror with LEVERET_DEBIAN_MIRROR",
    logTail: complaints,
  });
}

function definedEntries(env: AptOptions["env"]): Record<string, string> {
  return Object.fromEntries(Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined));
}
