// Describing an operating system
export { debian, defineOs } from "./config/define.ts";
export { CONFIG_FILE, loadProject, type Project } from "./config/load.ts";
export type { OsConfig, OsDescription } from "./config/schema.ts";
// What this machine has
export { examineMachine, type Finding } from "./doctor.ts";
// Errors
export { type ConfigIssue, OsBuilderError, type OsBuilderErrorCode, type OsBuilderErrorDetails } from "./errors.ts";
// Building
export type { BuiltImage, ImageRecord } from "./image/image.ts";
export type { TrustedCertificates } from "./inspect/chain.ts";
export type { ImageInspection, InspectedPartition, TrustLink, Verdict } from "./inspect/model.ts";
// Inspecting
export { type InspectImageOptions, inspectImage } from "./inspect/read.ts";
export { renderSvg } from "./inspect/svg.ts";
export { LOCK_FILE, readLock } from "./lock.ts";
// Booting
export {
  type BootImageOptions,
  type BootResult,
  bootImage,
  DEFAULT_BOOT_TIMEOUT_MS,
  describeMachine,
  type RefusingLayer,
} from "./machine/boot.ts";
export type { BootCheck, BootReport } from "./machine/report.ts";
export type { Artefacts, DirectArtefacts } from "./nix/artefacts.ts";
export {
  buildDirect,
  buildProject,
  buildProjectImage,
  lockPackages,
  type PipelineOptions,
  stateDirectory,
} from "./pipeline.ts";
