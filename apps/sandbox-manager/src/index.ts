export type { SandboxExit, SandboxProcess } from "./control/connection.ts";
// Errors
export { SandboxError, type SandboxErrorCode, type SandboxErrorDetails } from "./errors.ts";
export type { Environment } from "./places.ts";
// Sandboxes
export {
  findSandbox,
  listSandboxes,
  Sandbox,
  type SandboxExecOptions,
  type SandboxResult,
  type SandboxStartOptions,
  startSandbox,
  WORKSPACE,
} from "./sandbox.ts";
export type { SandboxState } from "./state.ts";
// Workspaces
export {
  DEFAULT_HIDDEN,
  DEFAULT_MAX_NODES,
  DEFAULT_MAX_WATCHES,
  DEFAULT_PAUSE_TIMEOUT_MS,
  serveWorkspace,
  type Workspace,
  type WorkspaceOptions,
  type WorkspaceState,
} from "./workspace/index.ts";
export { WORKSPACE_PROGRAM } from "./workspace-program.ts";
