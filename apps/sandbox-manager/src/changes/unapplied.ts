import { SandboxError } from "../errors.ts";
import type { Sandbox } from "../sandbox.ts";

/** Makes sure that nothing is lost when a sandbox ends. @throws {SandboxError} `SANDBOX_UNAPPLIED`. */
export async function expectNoChanges(sandbox: Sandbox): Promise<void> {
  const { name } = sandbox;
  if (sandbox.state.workspace !== "isolated") return;
  const { differences } = await sandbox.diff();
  const [first] = differences;
  if (first === undefined) return;
  const more = differences.length === 1 ? "" : ` and ${differences.length - 1} more`;
  const message = `expected all changes of ${name} to be applied, got ${first.path}${more}`;
  throw new SandboxError("SANDBOX_UNAPPLIED", message, {
    sandbox: name,
    path: first.path,
    hint: `leveret-sandbox diff -n ${name} shows them, stop --discard drops them`,
  });
}
