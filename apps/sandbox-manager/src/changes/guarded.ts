import { matchNames } from "../workspace/hidden.ts";
import type { Difference } from "./compare.ts";

/** A change that is not made unless somebody names it, and why. */
export interface HeldBack {
  readonly path: string;
  /** what has to be named, unless something more exact is */
  readonly root: string;
  readonly reason: string;
}

const GIT = "git runs it, or is led by it";
const LINK = "it leads out of the project";
const PACKAGE = "more than its dependencies and its description have changed, and package managers run some of it";

/** Names that a user's own programs look for without being asked to, in whatever directory, and what they do. */
const NAMES: readonly { readonly isMeant: (name: string) => boolean; readonly reason: string }[] = [
  [GIT, ".git", "HEAD", ".gitmodules", ".gitattributes", ".husky", ".huskyrc*", ".githooks", ".hg", ".jj", ".svn"],
  [GIT, ".pre-commit-config.y*ml", ".lintstagedrc*", "lint-staged.config.*", "lefthook*.*", ".lefthook*.*"],
  ["a shell may run it when somebody enters the directory", ".envrc*", ".tool-versions", "mise*.toml", ".mise*"],
  ["a shell may run it when somebody enters the directory", "flake.nix", "flake.lock", "shell.nix", "default.nix"],
  ["a shell may run it when somebody enters the directory", "devenv.*", "devbox.json", ".config"],
  ["an editor runs what it says", ".vscode", "*.code-workspace", ".idea", ".zed", ".devcontainer*", ".exrc", ".nvim*"],
  ["an editor runs what it says", ".dir-locals.el", ".fleet", ".vs", ".editorconfig"],
  [
    "a coding agent is led by it",
    ".claude*",
    "claude.md",
    "agents.md",
    ".mcp.json",
    ".cursor*",
    ".windsurf*",
    ".codex",
  ],
  ["a coding agent is led by it", ".gemini*", "gemini.md", ".aider*", "opencode.json*", ".kiro", ".roo*", ".cline*"],
  ["it runs where the project is tested", ".github", ".gitea", ".forgejo", ".gitlab*", ".circleci", ".buildkite"],
  ["it runs where the project is tested", ".woodpecker*", ".travis.y*ml", ".drone.y*ml", "azure-pipelines*.y*ml"],
  ["it runs where the project is tested", ".azure*", "*appveyor.y*ml", "bitbucket-pipelines.y*ml", ".cirrus.*"],
  ["it runs where the project is tested", "jenkinsfile*", "action.y*ml"],
  ["a package manager runs it, or is led by it", ".npmrc", ".yarn", ".yarnrc*", ".pnp.*", ".pnpmfile.*", "bunfig.toml"],
  ["a package manager runs it, or is led by it", "pnpm-workspace.yaml", "package.yaml", "package.json5", "binding.gyp"],
  ["a package manager runs it, or is led by it", ".cargo", "rust-toolchain*", ".mvn", "mvnw*", "gradlew*", ".gradle"],
].map(([reason = "", ...names]) => ({ isMeant: matchNames(names), reason }));

/** Inside of a repository, what is not meant by naming the repository. */
const IN_GIT = matchNames(["hooks", "config*", "info", "modules", "worktrees", "commondir", "gitdir"]);

/** Fields of a package that nothing is run for. */
const HARMLESS = new Set(
  (
    "name version description keywords author contributors license homepage repository bugs private type main module " +
    "types exports files engines sideEffects dependencies devDependencies peerDependencies peerDependenciesMeta " +
    "optionalDependencies"
  ).split(" "),
);

/**
 * Why a change is held back, unless somebody named it.
 *
 * @param named - Paths that somebody named, without a slash at their end.
 * @returns Undefined for what may be made.
 */
export function heldBack(difference: Difference, named: readonly string[]): HeldBack | undefined {
  const { path } = difference;
  const guard = guardOf(difference);
  if (guard === undefined) return undefined;
  const isNamed = named.some((name) => isWithin(name, guard.root) && isWithin(path, name));
  return isNamed ? undefined : { path, ...guard };
}

/** Whether a path is another one, or below it. */
export function isWithin(path: string, directory: string): boolean {
  return path === directory || path.startsWith(`${directory}/`);
}

function guardOf(difference: Difference): Omit<HeldBack, "path"> | undefined {
  const { path, after } = difference;
  const names = path.split("/");
  for (const [index, name] of names.entries()) {
    const folded = fold(name);
    const rule = NAMES.find(({ isMeant }) => isMeant(folded));
    if (rule === undefined) continue;
    const below = names[index + 1];
    const isDeeper = folded === ".git" && below !== undefined && IN_GIT(fold(below));
    return { root: names.slice(0, index + (isDeeper ? 2 : 1)).join("/"), reason: rule.reason };
  }
  if (after?.mode === "120000" && leadsOut(names, Buffer.from(after.read()).toString("utf8"))) {
    return { root: path, reason: LINK };
  }
  if (fold(names.at(-1) ?? "") === "package.json" && effectsOf(difference.before) !== effectsOf(after)) {
    return { root: path, reason: PACKAGE };
  }
  return undefined;
}

/**
 * A name as file systems of macOS and Windows may take it: they know neither case nor characters without a shape, drop what
 * is at the end, and have short names.
 */
function fold(name: string): string {
  const plain = name
    .normalize("NFKC")
    .replace(/\p{Default_Ignorable_Code_Point}/gu, "")
    .toLowerCase()
    .replace(/[. ]+$/, "");
  return /^git~\d+$/.test(plain) ? ".git" : plain;
}

/** Whether a link is absolute, or may lead above the project. */
function leadsOut(names: readonly string[], target: string): boolean {
  if (target.startsWith("/")) return true;
  const steps = target.split("/").filter((step) => step !== "" && step !== ".");
  const up = steps.findIndex((step) => step !== "..");
  const ups = up === -1 ? steps.length : up;
  // A name may be a link itself: nobody knows what is above it.
  return ups > names.length - 1 || steps.slice(ups).includes("..");
}

/** What of a package may be run, as text that is the same when it is. */
function effectsOf(version: Difference["before"]): string {
  if (version === undefined) return "{}";
  const text = Buffer.from(version.read()).toString("utf8");
  try {
    const fields = Object.entries(JSON.parse(text) as object).filter(([name]) => !HARMLESS.has(name));
    return JSON.stringify(Object.fromEntries(fields));
  } catch {
    // Not what package managers read; whatever it is, it is not the same.
    return text;
  }
}
