import { SandboxError } from "../errors.ts";

/** Requests that a rule is about. */
export interface RequestPattern {
  /** in capitals; all methods unless given */
  readonly methods?: readonly string[] | undefined;
  /** `/v1/*`: `*` is one segment, or at the end whatever follows; all paths unless given */
  readonly path?: string | undefined;
}

/** What rules look at of a request. */
export interface RequestFacts {
  readonly method: string;
  /** path and query, as it was sent */
  readonly target: string;
  /** names of its fields, lower case */
  readonly fields: readonly string[];
}

const PATTERN = /^(?:(?<methods>\*|[A-Z]{1,20}(?:,[A-Z]{1,20}){0,19})(?: +|$))?(?<path>\/\S*)?$/;
/** Fields by which some servers let a request be one of another method, or for another path. */
const OVERRIDES = [
  "x-http-method",
  "x-http-method-override",
  "x-method-override",
  "x-original-url",
  "x-rewrite-url",
  "x-original-uri",
];

/**
 * Parses what follows the host in a rule.
 *
 * @param text - `GET,HEAD /v1/*`, `POST`, `/public/*`.
 * @throws {SandboxError} `SANDBOX_NETWORK_RULE`.
 */
export function parseRequestPattern(text: string): RequestPattern {
  const found = PATTERN.exec(text)?.groups;
  const { methods, path } = found ?? {};
  const isPath = path === undefined || (segmentsOf(path.replaceAll("*", "a")) !== undefined && hasWholeStars(path));
  if (found === undefined || !isPath) {
    const message = `expected methods and a path such as GET,HEAD /v1/*, got ${JSON.stringify(text)}`;
    throw new SandboxError("SANDBOX_NETWORK_RULE", message);
  }
  return { methods: methods === undefined || methods === "*" ? undefined : methods.split(","), path };
}

/** Stars stand for segments; only the last one may follow something. */
function hasWholeStars(path: string): boolean {
  const inner = path.endsWith("*") ? path.slice(0, -1) : path;
  return !inner.includes("?") && inner.split("/").every((segment) => segment === "*" || !segment.includes("*"));
}

/**
 * Whether a request is one of those that a pattern is about.
 *
 * @param unclear - The answer for a request that servers could read in several ways: no where something is allowed by it,
 *   yes where something is denied.
 */
export function matchesRequest(
  { methods, path }: RequestPattern,
  { method, target, fields }: RequestFacts,
  unclear: boolean,
): boolean {
  if (methods === undefined && (path === undefined || path === "/*")) return true;
  if (fields.some((name) => OVERRIDES.includes(name))) return unclear;
  if (methods !== undefined && !methods.includes(method)) return false;
  return path === undefined || matchesPath(path, target, unclear);
}

/** Whether a path, with or without a query, is one that a pattern is about. */
export function matchesPath(pattern: string, target: string, unclear: boolean): boolean {
  const wanted = segmentsOf(pattern);
  const got = segmentsOf(target);
  if (pattern === "/*") return true;
  if (wanted === undefined || got === undefined) return unclear;
  const last = wanted.at(-1) ?? "";
  if (!last.endsWith("*")) return wanted.length === got.length && wanted.every((each, at) => isSegment(each, got[at]));
  const before = wanted.slice(0, -1);
  return (
    got.length >= wanted.length &&
    before.every((each, at) => isSegment(each, got[at])) &&
    (got[before.length] ?? "").startsWith(last.slice(0, -1))
  );
}

function isSegment(wanted: string, got: string | undefined): boolean {
  return wanted === "*" ? got !== "" : wanted === got;
}

/** What is between the slashes of a path, as a server understands it; undefined when servers could understand it differently. */
function segmentsOf(target: string): readonly string[] | undefined {
  const [path = ""] = target.split(/[?#]/, 1);
  const [, ...segments] = path.split("/");
  const decoded = segments.map((segment) =>
    segment.replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))),
  );
  const isClear = decoded.every((segment, at) => {
    // Empty ones are merged by some, `..;x` is `..` to others, and what was encoded twice may be decoded twice.
    if (segment === "" && at < decoded.length - 1) return false;
    return !/[/\\%]/.test(segment) && !/^\.{1,2}(?:;|$)/.test(segment) && !hasControl(segment);
  });
  return path.startsWith("/") && isClear ? decoded : undefined;
}

function hasControl(text: string): boolean {
  return [...text].some((character) => character < " " || character === "\x7f");
}
