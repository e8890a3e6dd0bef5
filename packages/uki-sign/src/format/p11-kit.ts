// The remoting protocol of p11-kit (https://p11-glue.github.io/p11-glue/p11-kit.html), which has no specification; what
// `p11-kit remote` and `p11-kit server` 0.24 to 0.26 speak. All numbers are big-endian.

/** begins C_Initialize */
export const HANDSHAKE = "PRIVATE-GNOME-KEYRING-PKCS11-PROTOCOL-V-1";
/** the one protocol version there is, the first byte in each direction */
export const PROTOCOL_VERSION = 0;
/** call number, size of the options, size of the message: u32 each */
export const FRAME_HEADER_BYTES = 12;
/** number of the message that answers a call that failed; its one field is the CKR_* */
export const ERROR_MESSAGE = 0;

/**
 * Messages: number, fields of the request, fields of the answer. Fields: `u` CK_ULONG in 8 bytes, `y` byte, `v` version in
 * 2 bytes, `s` text with its length in front, `a` array of the next, `f` room for the next, `A` attribute, `M` mechanism.
 */
export const CALLS = {
  initialize: { number: 1, request: "ayyay", answer: "" },
  finalize: { number: 2, request: "", answer: "" },
  getSlotList: { number: 4, request: "yfu", answer: "au" },
  getTokenInfo: { number: 6, request: "u", answer: "ssssuuuuuuuuuuuvvs" },
  openSession: { number: 10, request: "uu", answer: "u" },
  login: { number: 18, request: "uuay", answer: "" },
  getAttributeValue: { number: 24, request: "uufA", answer: "aAu" },
  findObjectsInit: { number: 26, request: "uaA", answer: "" },
  findObjects: { number: 27, request: "ufu", answer: "au" },
  findObjectsFinal: { number: 28, request: "u", answer: "" },
  signInit: { number: 42, request: "uMu", answer: "" },
  sign: { number: 43, request: "uayfy", answer: "ay" },
} as const;

/** a length that means: no array */
export const NO_ARRAY = 0xffff_ffff;
