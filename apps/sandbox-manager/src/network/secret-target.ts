import { SandboxError } from "../errors.ts";
import { parseRule } from "./rules.ts";

/** What a secret is for. */
export interface SecretTarget {
  /** a name, without `*.` */
  readonly host: string;
  /** whether it is for all names below `host`, and not for that itself */
  readonly isWildcard: boolean;
  /** default 443 */
  readonly port?: number | undefined;
  /** as in rules: `/owner/repository.git/*`; all paths unless given */
  readonly path?: string | undefined;
}

/**
 * Parses what a secret is for.
 *
 * @param text - `api.example`, `*.example.org:8443`, `git.example/owner/repository.git/*`.
 * @throws {SandboxError} `SANDBOX_NETWORK_RULE`.
 */
export function parseSecretTarget(text: string): SecretTarget {
  const slash = text.indexOf("/");
  const rule = parseRule(slash < 0 ? text : `${text.slice(0, slash)} ${text.slice(slash)}`, "a secret");
  const { host, isWildcard, port, protocol, target, request } = rule;
  if (host === "" || protocol !== "web" || target !== undefined || request?.methods !== undefined) {
    const message = `expected HOST[:PORT][/PATH] that a secret is for, got ${JSON.stringify(text)}`;
    throw new SandboxError("SANDBOX_NETWORK_RULE", message);
  }
  return { host, isWildcard, port, path: request?.path };
}
