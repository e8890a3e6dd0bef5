// A directory of the host in a guest
export { DEFAULT_HIDDEN } from "./hidden.ts";
export {
  DEFAULT_MAX_NODES,
  DEFAULT_MAX_WATCHES,
  DEFAULT_PAUSE_TIMEOUT_MS,
  serveWorkspace,
  type Workspace,
  type WorkspaceOptions,
} from "./serve.ts";
export type { WorkspaceState } from "./state.ts";
