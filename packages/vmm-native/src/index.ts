// Errors
export { VmmError, type VmmErrorCode, type VmmErrorDetails } from "./errors.ts";
// Guests
export { type Guest, startGuest } from "./guest.ts";
export { createHypervisor, type Hypervisor } from "./hypervisor.ts";
// Instructions
export {
  decodeInstruction,
  type Instruction,
  type InstructionAddress,
  type InstructionArithmetic,
  type InstructionOperation,
  type InstructionRegister,
  type InstructionSource,
} from "./instruction.ts";
export type { ExitCounts, GuestStop, StopReason } from "./internal/events.ts";
export { type LinuxPlan, type LinuxSizes, type Placement, planLinux } from "./linux-plan.ts";
// Memory
export {
  buildNestedTables,
  type NestedAccess,
  type NestedRange,
  type NestedTables,
  type NestedTablesDescription,
  type NestedTranslation,
  walkNestedTables,
} from "./nested-tables.ts";
export {
  type GuestDescription,
  guestSchema,
  type HostOptions,
  type HypervisorDescription,
  hypervisorSchema,
  MAX_GUEST_CPUS,
  MAX_GUEST_DISKS,
  MAX_GUEST_MEMORY_MIB,
  MAX_GUEST_NETWORKS,
  MAX_VMS,
  MIN_GUEST_MEMORY_MIB,
  type ResolvedHypervisor,
  type ResolvedVm,
  type RunOptions,
  type VmDescription,
  type VmDevices,
  vmSchema,
} from "./options.ts";
// The processor
export { type RuleCheck, selfTest } from "./self-test.ts";
export type { StopOptions, Vm, VmMemory, VmRegisters } from "./vm.ts";
export {
  checkVmcb,
  countExits,
  decodeExit,
  decodeVmcb,
  encodeVmcb,
  FAMILY_19H,
  type ProcessorCapabilities,
  type RuleViolation,
  VMCB_SIZE,
  type Vmcb,
  type VmcbExit,
  type VmcbFields,
  type VmcbSegment,
  type VmcbSegmentName,
} from "./vmcb.ts";
