// What isolated workspaces have changed
export type { SandboxApplied, SandboxApplyOptions, SandboxChanges } from "./changes/changes.ts";
export type { Difference, Version } from "./changes/compare.ts";
export type { HeldBack } from "./changes/guarded.ts";
export { formatPatch } from "./changes/patch.ts";
export { DEFAULT_MAX_CHANGED_BYTES, DEFAULT_MAX_CHANGES } from "./changes/tree.ts";
export type { SandboxCheckpoint } from "./checkpoint.ts";
export type { SandboxExit, SandboxProcess } from "./control/connection.ts";
// Errors
export { SandboxError, type SandboxErrorCode, type SandboxErrorDetails } from "./errors.ts";
// Sandboxes
export { findSandbox, listSandboxes } from "./find.ts";
export type { SandboxCopyRequest } from "./guest/copy.ts";
export { SandboxFiles, type SandboxReadOptions, type SandboxWriteOptions } from "./guest/files.ts";
export { DEFAULT_MAX_OUTPUT_BYTES } from "./guest/run-program.ts";
export { ShellCommand, type ShellResult, type ShellWord } from "./guest/shell-command.ts";
// Networks
export type { SandboxNetwork } from "./network/client.ts";
export { type ClientHello, DEFAULT_MAX_CLIENT_HELLO_BYTES, decodeClientHello } from "./network/format/tls.ts";
export type {
  NetworkExplanation,
  NetworkLogEntry,
  NetworkReason,
  NetworkReport,
  NetworkRules,
} from "./network/messages.ts";
export { type NetworkPreset, readPresets, type SandboxNetworkOptions } from "./network/options.ts";
export { parseRule, type Rule, type RuleTarget } from "./network/rules.ts";
export type { Environment } from "./places.ts";
export { PRESETS_FILE } from "./presets-file.ts";
export { type ProofResult, prove, type SandboxProof } from "./prove/prove.ts";
export { type Pruned, type PruneOptions, pruneSandboxes } from "./prune.ts";
export { race, type SandboxRace, type SandboxRaceOptions, type SandboxRaceRun } from "./race.ts";
export {
  Sandbox,
  type SandboxDiffOptions,
  type SandboxExecOptions,
  type SandboxResult,
  type SandboxRunOptions,
  WORKSPACE,
} from "./sandbox.ts";
export { type SandboxStartOptions, startSandbox } from "./start.ts";
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
