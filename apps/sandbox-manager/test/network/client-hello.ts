/** How a ClientHello is made. */
export interface ClientHelloOptions {
  readonly serverName?: string;
  /** a second one in the same list */
  readonly secondName?: string;
  /** the same extension once more */
  readonly isTwice?: boolean;
  readonly isEncrypted?: boolean;
  /** most bytes in a record */
  readonly recordBytes?: number;
}

const number = (value: number, bytes: number): number[] =>
  Array.from({ length: bytes }, (_, at) => (value >>> (8 * (bytes - 1 - at))) & 0xff);
const vector = (lengthBytes: number, content: readonly number[]): number[] => [
  ...number(content.length, lengthBytes),
  ...content,
];

/** Makes a ClientHello by hand. @see RFC 8446, section 4.1.2 */
export function clientHello(options: ClientHelloOptions): Uint8Array {
  const { serverName, secondName, recordBytes = 1 << 14 } = options;
  const name = (text: string): number[] => [0, ...vector(2, [...Buffer.from(text)])];
  const names = [serverName, secondName].filter((each) => each !== undefined).flatMap(name);
  const sni = [...number(0, 2), ...vector(2, vector(2, names))];
  const extensions = [
    ...[...number(0x2b, 2), ...vector(2, [2, 3, 4])],
    ...(serverName === undefined ? [] : sni),
    ...(options.isTwice ? sni : []),
    ...(options.isEncrypted ? [...number(0xfe0d, 2), ...vector(2, [0])] : []),
  ];
  const random = Array.from({ length: 32 }, (_, at) => at);
  const body = [
    3,
    3,
    ...random,
    ...vector(1, []),
    ...vector(2, [0x13, 1]),
    ...vector(1, [0]),
    ...vector(2, extensions),
  ];
  const message = [1, ...vector(3, body)];
  const records: number[] = [];
  for (let at = 0; at < message.length; at += recordBytes) {
    records.push(22, 3, 1, ...vector(2, message.slice(at, at + recordBytes)));
  }
  return Uint8Array.from(records);
}
