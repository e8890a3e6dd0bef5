// Description

export {
  type Accelerator,
  type AcceleratorKind,
  DEFAULT_PROBE_TIMEOUT_MS,
  type ProbeOptions,
  probeAccelerator,
} from "./accelerator.ts";
// In the guest
export type { GuestAgent } from "./agent/agent.ts";
export {
  DEFAULT_MAX_OUTPUT_BYTES,
  DEFAULT_READY_TIMEOUT_MS,
  type ExecOptions,
  type ExecResult,
  type GuestExit,
  type GuestProcess,
  type ReadFileOptions,
  type SpawnOptions,
  type WriteFileOptions,
} from "./agent/options.ts";
// Command line
export { type ArgvContext, buildArgv, commandLine, type FileFds, type MachineFds } from "./argv.ts";
// Disks that go wrong
export {
  type BlockDevice,
  type BlockDeviceCounts,
  type BlockDeviceOptions,
  createBlockDevice,
  DEFAULT_MAX_DEVICE_BYTES,
  DEFAULT_MAX_WRITTEN_BYTES,
  type PowerCut,
  type PowerCutPlan,
} from "./block/device.ts";
export type { DiskImpairment } from "./block/impairment.ts";
export type { BlockRequest, PowerCutOptions, SectorRange, WriteCache } from "./block/power-cut.ts";
// Time, and what depends on it
export { DEFAULT_ADVANCE_TIMEOUT_MS, type Duration } from "./clock.ts";
export {
  type ConsoleContext,
  type ConsoleEnd,
  type ConsoleMatch,
  type ConsolePattern,
  type ConsoleWaitOptions,
  DEFAULT_MAX_TRANSCRIPT_CHARS,
  DEFAULT_WAIT_TIMEOUT_MS,
  MAX_MATCH_CHARS,
  SETTLE_MS,
  SerialConsole,
} from "./console.ts";
// Initial file systems
export { type CpioFile, encodeCpio } from "./cpio.ts";
export {
  DEFAULT_MAX_SMBIOS_BYTES,
  type MachineDescription,
  machineSchema,
  type ResolvedMachine,
  resolveMachine,
} from "./description.ts";
// Errors
export { type Difference, QemuError, type QemuErrorCode, type QemuErrorDetails } from "./errors.ts";
// Crash explorer
export {
  DEFAULT_INVARIANT_TIMEOUT_MS,
  DEFAULT_MAX_POWER_CUTS,
  type ExploreOptions,
  explorePowerCuts,
  type PowerCutCheck,
  type PowerCutScenario,
} from "./explore/explore.ts";
export { type PowerCutFailure, type PowerCutReport, renderPowerCuts } from "./explore/report.ts";
export type { PowerCutKind } from "./explore/states.ts";
export { type FindFirmwareOptions, type Firmware, findFirmware } from "./firmware.ts";
export type { Forward, ForwardRequest } from "./forward.ts";
export { type FuzzSeedsOptions, fuzzSeeds, type SeedScenario } from "./fuzz-seeds.ts";
export type { GdbOptions, GdbServer } from "./gdb-server.ts";
export type { WaitOptions } from "./internal/wait.ts";
export type { Machine, MachineExit } from "./machine.ts";
export { DEFAULT_MAX_CAPTURE_BYTES } from "./network/capture.ts";
export {
  type Capture,
  createNetwork,
  DEFAULT_MAX_NETWORK_QUEUE_BYTES,
  type Impairment,
  type Network,
  type NetworkCounts,
  type NetworkEndpoint,
  type NetworkEndpointOptions,
  type NetworkOptions,
} from "./network/network.ts";
// Running machines
export { type MachinePlan, type PlanOptions, planMachine } from "./plan.ts";
// What the host has
export { type FindQemuOptions, findQemu, MINIMUM_QEMU_VERSION, type Qemu, type QemuVersion } from "./qemu.ts";
export { DEFAULT_MAX_QUEUED_EVENTS } from "./qmp/event-queue.ts";
export type { QmpCommands, QmpEvents } from "./qmp/generated/types.ts";
export type { QmpInteger, QmpIssue } from "./qmp/json.ts";
export type {
  OrOther,
  QmpArguments,
  QmpCall,
  QmpCommandName,
  QmpEvent,
  QmpEventData,
  QmpEventName,
  QmpEventsOptions,
  QmpExecuteOptions,
  QmpReturn,
} from "./qmp/types.ts";
export {
  DEFAULT_MAX_QMP_LINE_BYTES,
  DEFAULT_QMP_TIMEOUT_MS,
  QmpClient,
  type QmpGreeting,
  type QmpOptions,
} from "./qmp.ts";
export type { KeyName } from "./screen/keys.ts";
export { DEFAULT_SCREEN_TIMEOUT_MS, type MouseButton, type Screen } from "./screen/screen.ts";
// Forks and snapshots
export {
  type CachedTemplate,
  type CacheEntry,
  DEFAULT_MAX_TEMPLATE_CACHE_BYTES,
  openTemplateCache,
  type TemplateCache,
  type TemplateCacheOptions,
  type TemplateRequest,
} from "./snapshot/cache.ts";
export type { Ingredients } from "./snapshot/ingredients.ts";
export { type OpenSnapshotOptions, openSnapshot, readSnapshot, type SnapshotInfo } from "./snapshot/open.ts";
export { DEFAULT_START_TIMEOUT_MS, type StartOptions, startMachine } from "./start.ts";
export { DEFAULT_TAKE_TIMEOUT_MS } from "./taken-away.ts";
export type { ForkOptions, SaveOptions, Template } from "./template.ts";
// Where the time of a boot went
export { MAX_TIMELINE_MARKS } from "./timeline/recorder.ts";
export { renderTimelineSvg } from "./timeline/svg.ts";
export type {
  Timeline,
  TimelineGap,
  TimelineMark,
  TimelinePhase,
  TimelinePhaseName,
} from "./timeline/timeline.ts";
