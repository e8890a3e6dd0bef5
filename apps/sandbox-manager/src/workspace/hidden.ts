/**
 * Names that the guest does not see by default: files that hold secrets as long as they have the name that their makers
 * gave them. A name is looked at without the directory that it is in, and without regard to case.
 *
 * Not hidden, although secrets are sometimes in them, because projects do not work without: `.npmrc`, `.envrc`, and
 * `*.pem` in general, which is a bundle of public certificates as often as a key.
 */
export const DEFAULT_HIDDEN: readonly string[] = [
  ".env",
  ".env.*",
  "!.env.example",
  "!.env.sample",
  "!.env.template",
  "!.env.dist",
  "*.env.local",
  "id_rsa",
  "id_dsa",
  "id_ecdsa",
  "id_ecdsa_sk",
  "id_ed25519",
  "id_ed25519_sk",
  "*-key.pem",
  "*.key.pem",
  "*_key.pem",
  "key.pem",
  "privkey*.pem",
  "private*.pem",
  "*.p12",
  "*.pfx",
  "*.keystore",
  "*.jks",
  "*.kdbx",
  ".netrc",
  "_netrc",
  ".pypirc",
  ".git-credentials",
  ".pgpass",
  ".ssh",
  ".gnupg",
  ".aws",
  ".kube",
];

/** Names that no guest ever sees or makes, whatever else it may: what the host writes to a project while it changes it. */
export const ALWAYS_HIDDEN: readonly string[] = [".leveret-apply-*"];

/** Most characters of a pattern. */
export const MAX_PATTERN_CHARS = 255;

/** Makes a test for names that are text; see {@link hiddenNames}. */
export function matchNames(patterns: readonly string[]): (name: string) => boolean {
  const matches = hiddenNames(patterns);
  return (name) => matches(Buffer.from(name).toString("latin1"));
}

/**
 * Makes a test for names out of patterns.
 *
 * @param patterns - Names in which `*` stands for any characters; one that begins with `!` makes an exception of those
 *   before it. The last that fits decides.
 * @returns Whether a name, as one character per byte, is hidden.
 */
export function hiddenNames(patterns: readonly string[]): (name: string) => boolean {
  const rules = patterns.map((pattern) => {
    const hides = !pattern.startsWith("!");
    const parts = lower(Buffer.from(hides ? pattern : pattern.slice(1)).toString("latin1")).split("*");
    return { hides, parts };
  });
  const exact = new Map(
    rules.filter(({ parts }) => parts.length === 1).map((rule) => [rule.parts[0] ?? "", rule.hides]),
  );
  // Without wildcards one look is enough, unless their order among the others counts.
  if (exact.size === rules.length) return (name) => exact.get(lower(name)) ?? false;
  return (name) => {
    const asked = lower(name);
    let hidden = false;
    for (const { hides, parts } of rules) if (hides !== hidden && fits(asked, parts)) hidden = hides;
    return hidden;
  };
}

/** Whether a name consists of `parts` in order, with anything between them. In time linear in both. */
function fits(name: string, parts: readonly string[]): boolean {
  const first = parts[0] ?? "";
  const last = parts.at(-1) ?? "";
  if (parts.length === 1) return name === first;
  if (name.length < first.length + last.length || !name.startsWith(first) || !name.endsWith(last)) return false;
  const end = name.length - last.length;
  let at = first.length;
  for (const part of parts.slice(1, -1)) {
    const found = name.indexOf(part, at);
    if (found === -1 || found + part.length > end) return false;
    at = found + part.length;
  }
  return true;
}

/** ASCII letters only: others mean something else as bytes. */
function lower(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => letter.toLowerCase());
}
