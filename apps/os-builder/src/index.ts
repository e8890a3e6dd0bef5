// Describing an operating system
export { debian, defineOs } from "./config/define.ts";
export { CONFIG_FILE, loadProject, type Project } from "./config/load.ts";
export type { OsConfig, OsDescription } from "./config/schema.ts";
// Errors
export { OsBuilderError, type OsBuilderErrorCode, type OsBuilderErrorDetails } from "./errors.ts";
// Locking and building
export { LOCK_FILE, type LockOptions, lockProject, readLock } from "./lock.ts";
export { type Artefacts, type BuildArtefactsOptions, buildArtefacts } from "./nix/artefacts.ts";
