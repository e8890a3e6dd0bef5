// Errors
export { VmmError, type VmmErrorCode, type VmmErrorDetails } from "./errors.ts";
// Guests
export { type Guest, startGuest } from "./guest.ts";
export type { GuestStop, StopReason } from "./internal/events.ts";
export {
  type GuestDescription,
  guestSchema,
  MAX_GUEST_CPUS,
  MAX_GUEST_MEMORY_MIB,
  MIN_GUEST_MEMORY_MIB,
  type ResolvedGuest,
  type RunOptions,
} from "./options.ts";
