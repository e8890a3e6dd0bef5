// PKCS #11 v2.40 (OASIS, 2015), base specification section 3 and header pkcs11t.h: the few numbers that signing needs.

/** CKO_*: what an object is */
export const OBJECT_CLASS = { certificate: 1n, publicKey: 2n, privateKey: 3n } as const;

/** CKA_* */
export const ATTRIBUTE = {
  class: 0x000,
  label: 0x003,
  value: 0x011,
  certificateType: 0x080,
  keyType: 0x100,
  id: 0x102,
  modulus: 0x120,
  publicExponent: 0x122,
  alwaysAuthenticate: 0x202,
} as const;

/** CKC_X_509 */
export const CERTIFICATE_X509 = 0n;
/** CKK_RSA */
export const KEY_RSA = 0n;

/** CKM_*: `hash` and CKG_* `mgf` are parameters of `rsaPkcsPss` */
export const MECHANISM = { rsaPkcs: 0x1, rsaPkcsPss: 0xd } as const;
export const HASH_MECHANISM = { sha256: 0x250n, sha384: 0x260n, sha512: 0x270n } as const;
export const MASK_GENERATION = { sha256: 2n, sha384: 3n, sha512: 4n } as const;

/** CKF_SERIAL_SESSION: has to be set */
export const SESSION_SERIAL = 4n;
/** CKU_USER and CKU_CONTEXT_SPECIFIC: who logs in */
export const USER = 1n;
export const USER_CONTEXT_SPECIFIC = 2n;

/** CKF_*: bits of a token's flags */
export const TOKEN_FLAG = {
  loginRequired: 0x4n,
  initialized: 0x400n,
  protectedAuthenticationPath: 0x100n,
  pinCountLow: 0x1_0000n,
  pinFinalTry: 0x2_0000n,
  pinLocked: 0x4_0000n,
} as const;

/** CKR_*: reasons that are told apart */
export const RESULT = {
  ok: 0x00n,
  deviceError: 0x30n,
  attributeSensitive: 0x11n,
  attributeTypeInvalid: 0x12n,
  functionNotSupported: 0x54n,
  keyHandleInvalid: 0x60n,
  keyTypeInconsistent: 0x63n,
  keyFunctionNotPermitted: 0x68n,
  mechanismInvalid: 0x70n,
  mechanismParamInvalid: 0x71n,
  pinIncorrect: 0xa0n,
  pinInvalid: 0xa1n,
  pinLenRange: 0xa2n,
  pinExpired: 0xa3n,
  pinLocked: 0xa4n,
  tokenNotPresent: 0xe0n,
  userAlreadyLoggedIn: 0x100n,
  userNotLoggedIn: 0x101n,
  userPinNotInitialized: 0x102n,
} as const;
