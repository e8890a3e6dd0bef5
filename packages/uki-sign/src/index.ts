// Errors
export { UkiSignError, type UkiSignErrorCode, type UkiSignErrorDetails } from "./errors.ts";
