// NBD protocol, https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md, sections "Fixed newstyle negotiation",
// "Transmission" and "Values". All integers have their most significant byte first.

/** `NBDMAGIC` */
export const GREETING_MAGIC = 0x4e42_444d_4147_4943n;
/** `IHAVEOPT`: of the greeting, and in front of every option */
export const OPTION_MAGIC = 0x4948_4156_454f_5054n;
export const OPTION_REPLY_MAGIC = 0x0003_e889_0455_65a9n;
export const REQUEST_MAGIC = 0x2560_9513;
export const SIMPLE_REPLY_MAGIC = 0x6744_6698;

/** magic, magic, handshake flags */
export const GREETING_BYTES = 18;
export const CLIENT_FLAGS_BYTES = 4;
/** magic, option, length of its data */
export const OPTION_BYTES = 16;
/** magic, option, type, length of its data */
export const OPTION_REPLY_BYTES = 20;
/** magic, flags, type, cookie, offset, length */
export const REQUEST_BYTES = 28;
/** magic, error, cookie */
export const SIMPLE_REPLY_BYTES = 16;
/** what follows size and flags of an export that was chosen by `EXPORT_NAME`, unless the client does without */
export const EXPORT_PADDING_BYTES = 124;

export const HANDSHAKE_FLAG = { fixedNewstyle: 1 << 0, noZeroes: 1 << 1 } as const;

export const OPTION = { exportName: 1, abort: 2, list: 3, info: 6, go: 7 } as const;

export const OPTION_REPLY = {
  ack: 1,
  server: 2,
  info: 3,
  unsupported: 0x8000_0001,
  invalid: 0x8000_0003,
} as const;

export const INFO = { export: 0, blockSize: 3 } as const;

export const TRANSMISSION_FLAG = {
  hasFlags: 1 << 0,
  sendFlush: 1 << 2,
  sendFua: 1 << 3,
  sendTrim: 1 << 5,
  sendWriteZeroes: 1 << 6,
} as const;

export const COMMAND = { read: 0, write: 1, disconnect: 2, flush: 3, trim: 4, writeZeroes: 6 } as const;

export const COMMAND_FLAG = { fua: 1 << 0, noHole: 1 << 1 } as const;

export const ERROR = { none: 0, io: 5, invalid: 22, noSpace: 28 } as const;
