/** A query for a name. @see RFC 1035, section 4.1 */
export function dnsQuery(name: string, type: number): Uint8Array {
  const labels = name.split(".").map((label) => Buffer.from(`${String.fromCharCode(label.length)}${label}`, "latin1"));
  const header = Uint8Array.of(0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0);
  return Buffer.concat([header, ...labels, Uint8Array.of(0, 0, type, 0, 1)]);
}

/** An ICMP echo request. @see RFC 792 */
export function echoRequest(): Uint8Array {
  return Uint8Array.of(8, 0, 0xf7, 0xfe, 0, 0, 0, 1);
}

/**
 * The first message of TLS 1.3, as far as it says for whom it is.
 *
 * @see RFC 8446, section 4.1.2; RFC 6066, section 3
 */
export function clientHello({
  serverName,
  isEncrypted,
}: {
  readonly serverName?: string;
  /** with another name that only the server can read */
  readonly isEncrypted?: boolean;
}): Uint8Array {
  const name = serverName === undefined ? undefined : vector(2, Uint8Array.of(0), vector(2, Buffer.from(serverName)));
  const extensions = [
    extension(0x2b, Uint8Array.of(2, 3, 4)),
    ...(name === undefined ? [] : [extension(0, name)]),
    ...(isEncrypted ? [extension(0xfe0d, Uint8Array.of(0))] : []),
  ];
  const random = Buffer.alloc(32, 7);
  const body = [Uint8Array.of(3, 3), random, Uint8Array.of(0), vector(2, Uint8Array.of(0x13, 1)), Uint8Array.of(1, 0)];
  const message = vector(3, ...body, vector(2, ...extensions));
  return Buffer.concat([Uint8Array.of(22, 3, 1), vector(2, Uint8Array.of(1), message)]);
}

function extension(type: number, content: Uint8Array): Uint8Array {
  return Buffer.concat([Uint8Array.of(type >> 8, type & 0xff), vector(2, content)]);
}

/** Its length, and it. @see RFC 8446, section 3.4 */
function vector(lengthBytes: number, ...parts: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(parts);
  const length = Buffer.alloc(lengthBytes);
  length.writeUIntBE(content.length, 0, lengthBytes);
  return Buffer.concat([length, content]);
}
