import type { FileErrorKind, ReportFileError } from "@leveret/block-source";
import { UkiSignError, type UkiSignErrorCode } from "../errors.ts";

const CODES: Readonly<Record<FileErrorKind, UkiSignErrorCode>> = {
  full: "UKI_SIGN_FILE",
  io: "UKI_SIGN_FILE",
  "not-found": "UKI_SIGN_FILE",
  "same-file": "UKI_SIGN_FILE",
  "too-large": "UKI_SIGN_TOO_LARGE",
  truncated: "UKI_SIGN_PE_TRUNCATED",
  "wrong-type": "UKI_SIGN_FILE",
};

/** Makes this package's error of what went wrong with a file. */
export const reportFileError: ReportFileError = (kind, message, facts) => new UkiSignError(CODES[kind], message, facts);
