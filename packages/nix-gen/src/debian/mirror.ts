import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { NixGenError } from "../errors.ts";
import { quote } from "../internal/text.ts";

/** Where a Debian archive and its security archive are; URLs without a slash at the end. */
export interface DebianMirror {
  /** the archive: holds `dists/` and `pool/` */
  readonly main: string;
  /** the security archive; absent when none is known, and then no security updates are locked */
  readonly security?: string | undefined;
}

/** Where {@link findDebianMirror} looks. */
export interface FindMirrorOptions {
  /** the caller's own choice, taken before everything else */
  readonly mirror?: DebianMirror | string | undefined;
  /** environment: `LEVERET_DEBIAN_MIRROR`, `LEVERET_DEBIAN_SECURITY_MIRROR` */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** directory with `sources.list` and `sources.list.d`; `/etc/apt` when not given */
  readonly aptDirectory?: string;
}

/**
 * Finds a Debian mirror: the option, then `LEVERET_DEBIAN_MIRROR` (and `LEVERET_DEBIAN_SECURITY_MIRROR`), then the
 * first archive and security archive of the machine's own apt sources.
 *
 * @param options - The caller's choice, the environment, and where apt's sources are.
 * @returns The mirror; its `security` may be absent.
 * @throws {NixGenError} `NIX_GEN_NO_MIRROR` naming the three places, `NIX_GEN_BAD_MIRROR` for what is no URL, or
 *   one that apt or Nix can't be told of.
 * @example
 * const mirror = await findDebianMirror({ env: process.env });
 */
export async function findDebianMirror(options: FindMirrorOptions = {}): Promise<DebianMirror> {
  const { mirror, env = {}, aptDirectory = "/etc/apt" } = options;
  if (mirror !== undefined) return checkMirror(typeof mirror === "string" ? { main: mirror } : mirror, "the option");
  const fromEnv = env.LEVERET_DEBIAN_MIRROR ?? "";
  if (fromEnv !== "") {
    const security = env.LEVERET_DEBIAN_SECURITY_MIRROR || undefined;
    return checkMirror({ main: fromEnv, security }, "LEVERET_DEBIAN_MIRROR");
  }
  const found = chooseMirror(await readAptSources(aptDirectory));
  if (found !== undefined) return checkMirror(found, aptDirectory);
  const message = `expected a Debian mirror in the option, in LEVERET_DEBIAN_MIRROR or in ${aptDirectory}, got none`;
  throw new NixGenError("NIX_GEN_NO_MIRROR", message, {
    hint: "set LEVERET_DEBIAN_MIRROR to the URL of a directory that holds dists/ and pool/",
  });
}

/**
 * The directories of a mirror that is on this machine (`file:` URLs), for {@link BuildFlakeOptions.readablePaths}.
 *
 * @throws {NixGenError} `NIX_GEN_BAD_MIRROR` for a URL that {@link findDebianMirror} would refuse.
 */
export function mirrorDirectories({ main, security }: DebianMirror): string[] {
  const urls = [main, security].filter((url) => url?.startsWith("file:") === true);
  return [...new Set(urls.map((url) => fileURLToPath(checkUrl(url ?? "", "the mirror"))))];
}

/** One archive and suite that apt is told to use. */
interface AptSource {
  /** URL without a slash at the end */
  readonly uri: string;
  /** `trixie`, `trixie-updates`, `trixie-security` */
  readonly suite: string;
  readonly components: readonly string[];
}

/**
 * Parses a one-line-style `sources.list`; lines that apt would refuse are passed over.
 *
 * @see sources.list(5), "one-line-style format"
 */
function parseSourcesList(text: string): AptSource[] {
  const sources: AptSource[] = [];
  for (const line of text.split("\n")) {
    const match = /^\s*deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)([^#]*)/.exec(line);
    if (match === null) continue;
    const [, uri = "", suite = "", components = ""] = match;
    sources.push({ uri: withoutSlash(uri), suite, components: words(components) });
  }
  return sources;
}

/**
 * Parses a deb822-style `*.sources` file; stanzas that are disabled or not for binary packages are passed over.
 *
 * @see sources.list(5), "deb822-style format"
 */
function parseDeb822Sources(text: string): AptSource[] {
  const sources: AptSource[] = [];
  for (const stanza of text.split(/\n\s*\n/)) {
    const fields = deb822Fields(stanza);
    if (!words(fields.get("types") ?? "").includes("deb") || fields.get("enabled") === "no") continue;
    for (const uri of words(fields.get("uris") ?? "")) {
      for (const suite of words(fields.get("suites") ?? "")) {
        sources.push({ uri: withoutSlash(uri), suite, components: words(fields.get("components") ?? "") });
      }
    }
  }
  return sources;
}

function deb822Fields(stanza: string): Map<string, string> {
  const fields = new Map<string, string>();
  let name = "";
  for (const line of stanza.split("\n")) {
    if (line.startsWith("#")) continue;
    const field = /^([A-Za-z-]+):\s*(.*)$/.exec(line);
    if (field !== null) {
      name = (field[1] ?? "").toLowerCase();
      fields.set(name, field[2] ?? "");
    } else if (/^\s/.test(line)) {
      fields.set(name, `${fields.get(name) ?? ""} ${line.trim()}`);
    }
  }
  return fields;
}

// Releases of Debian and the aliases that move between them; third-party archives name their suites otherwise.
const DEBIAN_SUITES =
  "buster bullseye bookworm trixie forky duke sid stable oldstable oldoldstable testing unstable".split(" ");

function chooseMirror(sources: readonly AptSource[]): DebianMirror | undefined {
  const usable = sources.filter(({ uri, components }) => /^(https?|file):/.test(uri) && components.includes("main"));
  const main = usable.find(({ suite }) => DEBIAN_SUITES.includes(suite));
  const security = usable.find(({ suite }) => DEBIAN_SUITES.some((name) => suite.startsWith(`${name}-security`)));
  return main === undefined ? undefined : { main: main.uri, security: security?.uri };
}

async function readAptSources(directory: string): Promise<AptSource[]> {
  const parts = await readdir(join(directory, "sources.list.d")).catch(() => []);
  const files = [
    join(directory, "sources.list"),
    ...parts.sort().map((name) => join(directory, "sources.list.d", name)),
  ];
  const sources: AptSource[] = [];
  for (const file of files) {
    const text = await readFile(file, "utf8").catch(() => "");
    if (file.endsWith(".list")) sources.push(...parseSourcesList(text));
    if (file.endsWith(".sources")) sources.push(...parseDeb822Sources(text));
  }
  return sources;
}

function checkMirror({ main, security }: DebianMirror, origin: string): DebianMirror {
  return {
    main: checkUrl(main, origin),
    security: security === undefined ? undefined : checkUrl(security, origin),
  };
}

/** `url` without a slash at its end, if apt and Nix can both be told of it. */
function checkUrl(url: string, origin: string): string {
  const refuse = (expected: string, hint: string): NixGenError => {
    const message = `expected ${expected}, got ${quote(url)} (from ${origin})`;
    return new NixGenError("NIX_GEN_BAD_MIRROR", message, { hint });
  };
  if (!/^(https?|file):\/\/\S+$/.test(url) || !URL.canParse(url)) {
    const hint = "it looks like http://host/debian or file:///srv/debian; rename a directory with blanks in its path";
    throw refuse("an http, https or file URL as mirror", hint);
  }
  const { username, password, host } = new URL(url);
  // The URL gets into derivations, which everybody can read.
  if (username !== "" || password !== "") {
    throw new NixGenError("NIX_GEN_BAD_MIRROR", `expected a mirror's URL without a user or password (from ${origin})`);
  }
  // apt decodes them, and then names every file by another URL than the mirror's.
  if (url.includes("%")) {
    throw refuse(
      "a mirror's URL without %-escapes",
      "write the characters themselves, and rename a directory with blanks in its path",
    );
  }
  if (!url.startsWith("file:")) return withoutSlash(url);
  if (host !== "")
    throw refuse("a file URL without a host", "an absolute path makes three slashes: file:///srv/debian");
  // Nix's setting sandbox-paths has no way to write it.
  if (/[=?#]/.test(url)) {
    throw refuse("a file URL without any of = ? #", "rename the directory");
  }
  return withoutSlash(url);
}

function withoutSlash(uri: string): string {
  return uri.replace(/\/+$/, "");
}

function words(text: string): string[] {
  return text.split(/\s+/).filter((word) => word !== "");
}
