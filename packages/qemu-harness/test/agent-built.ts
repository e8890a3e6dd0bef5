import { existsSync } from "node:fs";

/**
 * Why tests with the agent cannot run, or an empty string. The one thing that may be missing in CI: a checkout can be
 * used without Rust, and then has no agent.
 */
export function missingAgent(): string {
  const built = existsSync(new URL("../dist/leveret-agent", import.meta.url));
  return built ? "" : "the agent is not built: no Rust toolchain";
}
