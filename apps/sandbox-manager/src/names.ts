import { SandboxError } from "./errors.ts";

/** How many sandboxes one user has at most: each has an address of its own, and a name. */
export const MAX_SANDBOXES = 250;

/** Name of the sandbox with a number: `vm-1`. */
export function nameOf(number: number): string {
  return `vm-${number}`;
}

/** Address of the host that a sandbox's ports appear on: `127.0.1.1`. All of 127/8 is this host, without set-up. */
export function addressOf(number: number): string {
  return `127.0.1.${number}`;
}

/**
 * The number of the sandbox that a person means: `vm-2` or `2`.
 *
 * @throws {SandboxError} `SANDBOX_BAD_OPTIONS` for anything else.
 */
export function numberOf(text: string): number {
  const number = Number(/^(?:vm-)?([1-9]\d{0,2})$/.exec(text)?.[1]);
  if (number <= MAX_SANDBOXES) return number;
  throw new SandboxError("SANDBOX_BAD_OPTIONS", `expected a sandbox such as vm-1, got ${JSON.stringify(text)}`, {
    hint: "leveret-sandbox ls shows the ones there are",
  });
}
