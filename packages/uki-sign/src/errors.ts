/** Every reason for which this package refuses something; renaming one is a breaking change. */
export type UkiSignErrorCode =
  /** options that fail validation: unknown key, wrong type, values that exclude each other */
  | "UKI_SIGN_BAD_OPTIONS"
  /** a file that cannot be read or written */
  | "UKI_SIGN_FILE"
  /** a PE image that ends before something its headers announce */
  | "UKI_SIGN_PE_TRUNCATED"
  /** bytes that are no PE image: `MZ` or `PE` signature missing */
  | "UKI_SIGN_PE_BAD_MAGIC"
  /** a PE image of a kind this package does not handle: PE32, odd alignment, too many sections */
  | "UKI_SIGN_PE_UNSUPPORTED"
  /** PE headers that contradict each other or the file, so that tools would disagree on what is signed */
  | "UKI_SIGN_PE_INVALID"
  /** no space left in the PE headers or between two sections for what was to be added */
  | "UKI_SIGN_PE_NO_ROOM"
  /** an image, a section or a file beyond what PE fields or a limit of this package can hold */
  | "UKI_SIGN_TOO_LARGE"
  /** a section that the operation needs and the image lacks */
  | "UKI_SIGN_SECTION_MISSING"
  /** a profile's image whose sections are not those of one profile */
  | "UKI_SIGN_PROFILE_INVALID"
  /** a compressed kernel that firmware could not load and this package cannot unpack */
  | "UKI_SIGN_KERNEL_COMPRESSED"
  /** a description of a machine or a `.hwids` section that is not what systemd-stub reads */
  | "UKI_SIGN_HWIDS_INVALID"
  /** `.sbat` text that does not begin with the `sbat,` entry */
  | "UKI_SIGN_SBAT_INVALID"
  /** an Authenticode signature whose content is not a well-formed SpcIndirectDataContent */
  | "UKI_SIGN_AUTHENTICODE_INVALID"
  /** an image without any signature, where one is required */
  | "UKI_SIGN_UNSIGNED"
  /** an image changed after it was signed */
  | "UKI_SIGN_DIGEST_MISMATCH"
  /** an intact signature by nobody in `db` */
  | "UKI_SIGN_UNTRUSTED"
  /** an image or signer that `dbx` forbids */
  | "UKI_SIGN_REVOKED"
  /** bytes that are not the expected DER structure */
  | "UKI_SIGN_DER_INVALID"
  /** a file without an intact private key in PEM */
  | "UKI_SIGN_KEY_INVALID"
  /** an encrypted private key with a passphrase that is missing or wrong */
  | "UKI_SIGN_PASSPHRASE"
  /** a key of a kind or length that firmware and kernel do not accept */
  | "UKI_SIGN_KEY_UNSUPPORTED"
  /** a directory for new keys that has something in it */
  | "UKI_SIGN_KEYS_EXIST"
  /** a key hierarchy with files that are missing or wrong; the message names each */
  | "UKI_SIGN_KEYS_INVALID"
  /** a private key that does not belong to the certificate given with it */
  | "UKI_SIGN_KEY_MISMATCH"
  /** text that is not a `pkcs11:` URI of a private key or certificate */
  | "UKI_SIGN_PKCS11_URI"
  /** no PKCS#11 token that a URI names, or several */
  | "UKI_SIGN_TOKEN"
  /** a token's PIN that is missing or wrong, or a token that is locked or nearly so */
  | "UKI_SIGN_PIN"
  /** no key or certificate on a token that a URI names */
  | "UKI_SIGN_OBJECT_MISSING"
  /** several keys or certificates on a token that a URI names */
  | "UKI_SIGN_OBJECT_AMBIGUOUS"
  /** a token or key that does not sign in the way that is needed */
  | "UKI_SIGN_MECHANISM"
  /** p11-kit missing, a token that failed, or an answer that is none */
  | "UKI_SIGN_PKCS11"
  /** a remote signer that cannot be reached, or does not speak the protocol */
  | "UKI_SIGN_REMOTE"
  /** a token that a remote signer does not know, or that is not for this */
  | "UKI_SIGN_REMOTE_UNAUTHORIZED"
  /** a signature that somebody refused to approve */
  | "UKI_SIGN_REMOTE_REFUSED"
  /** a signature that too few approved in time */
  | "UKI_SIGN_REMOTE_EXPIRED"
  /** a remote signer at which too many requests wait, or one client's too many */
  | "UKI_SIGN_REMOTE_BUSY"
  /** bytes that are not an acceptable X.509 certificate */
  | "UKI_SIGN_CERTIFICATE_INVALID"
  /** bytes that are not an acceptable CMS signature */
  | "UKI_SIGN_CMS_INVALID"
  /** a signature that its signer's key did not make over this content */
  | "UKI_SIGN_SIGNATURE_MISMATCH"
  /** a verity signature partition that does not hold what systemd reads from it */
  | "UKI_SIGN_VERITY_INVALID"
  /** an EFI_SIGNATURE_LIST whose sizes contradict each other or its type */
  | "UKI_SIGN_SIGNATURE_LIST_INVALID"
  /** an EFI_VARIABLE_AUTHENTICATION_2 that firmware would not look at */
  | "UKI_SIGN_VARIABLE_INVALID"
  /** a flash image that is no sound EDK II variable store */
  | "UKI_SIGN_VARIABLE_STORE_INVALID"
  /** a variable store without room for what was to be added */
  | "UKI_SIGN_VARIABLE_STORE_FULL"
  /** a variable store that has Secure Boot keys already */
  | "UKI_SIGN_VARIABLE_STORE_ENROLLED"
  /** a revocation that would keep a machine from booting what it boots */
  | "UKI_SIGN_DBX_IN_USE"
  /** bytes that are no TCG event log, or one that ends early or contradicts itself */
  | "UKI_SIGN_EVENT_LOG_INVALID"
  /** a disk without a partition table that can be measured */
  | "UKI_SIGN_GPT_INVALID"
  /** `.pcrsig` text that is not what systemd reads from it */
  | "UKI_SIGN_PCR_SIGNATURES_INVALID";

/** What a {@link UkiSignError} knows beyond its code and message. */
export interface UkiSignErrorDetails {
  /** byte offset in the input at which decoding stopped */
  readonly offset?: number | undefined;
  /** path of the option or structure field in question: `sections[2].name` */
  readonly field?: string | undefined;
  /** file in question */
  readonly path?: string | undefined;
  /** what a person can do about it */
  readonly hint?: string | undefined;
  /** the error underneath */
  readonly cause?: unknown;
}

/**
 * The one error class of this package, thrown for bad data and bad options alike.
 *
 * @example
 * try {
 *   decodePe(bytes);
 * } catch (error) {
 *   if (error instanceof UkiSignError && error.code === "UKI_SIGN_PE_TRUNCATED") console.log(error.offset);
 * }
 */
export class UkiSignError extends Error {
  /** Reason, for programs; `message` is for people and may change in any release. */
  readonly code: UkiSignErrorCode;
  declare readonly offset?: number;
  declare readonly field?: string;
  declare readonly path?: string;
  declare readonly hint?: string;

  static {
    this.prototype.name = "UkiSignError";
  }

  constructor(code: UkiSignErrorCode, message: string, details: UkiSignErrorDetails = {}) {
    const { cause, ...facts } = details;
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    for (const [name, value] of Object.entries(facts)) {
      if (value !== undefined) Object.assign(this, { [name]: value });
    }
  }
}
