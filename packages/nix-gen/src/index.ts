// errors
export { NixGenError, type NixGenErrorCode, type NixGenErrorDetails } from "./errors.ts";
