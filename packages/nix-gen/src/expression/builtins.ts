import type { Requirement } from "../internal/node.ts";

// First releases with a builtin, from the release notes of Nix 2.9 to 2.26; what 2.8 has is not listed.
const SINCE: Readonly<Record<string, readonly [number, number]>> = {
  break: [2, 9],
  traceVerbose: [2, 10],
  readFileType: [2, 14],
  outputOf: [2, 17],
  convertHash: [2, 19],
  parseFlakeRef: [2, 19],
  flakeRefToString: [2, 19],
  addDrvOutputDependencies: [2, 20],
  warn: [2, 23],
};

/** What Nix has to be for `builtins.name` to exist, when not every supported one has it. */
export function requirementOf(name: string): Requirement | undefined {
  const since = Object.hasOwn(SINCE, name) ? SINCE[name] : undefined;
  return since === undefined ? undefined : { since, feature: `builtins.${name}` };
}
