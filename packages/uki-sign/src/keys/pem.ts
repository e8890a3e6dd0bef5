/** One block of a PEM file. */
export interface PemBlock {
  /** words between BEGIN and the dashes: `CERTIFICATE` */
  readonly label: string;
  /** decoded body; empty for a body with encapsulated headers */
  readonly bytes: Uint8Array;
  /** whether the body's headers say that it is encrypted (RFC 1421 `Proc-Type: 4,ENCRYPTED`) */
  readonly encrypted: boolean;
}

/**
 * The blocks of a PEM file, in order; text outside of blocks is comment.
 *
 * @param pem - The text, or its bytes.
 * @returns The blocks; empty when there is none, or when a body is not base64.
 * @see RFC 7468 section 3
 */
export function decodePem(pem: string | Uint8Array): PemBlock[] {
  const text = typeof pem === "string" ? pem : Buffer.from(pem.buffer, pem.byteOffset, pem.length).toString("latin1");
  const blocks: PemBlock[] = [];
  for (const match of text.matchAll(
    /^-----BEGIN ([A-Z0-9 ]{1,64})-----[ \t]*\r?\n([^-]*(?:-[^-]+)*?)-----END \1-----/gm,
  )) {
    const [, label = "", body = ""] = match;
    const encrypted = /^Proc-Type: 4,ENCRYPTED/m.test(body);
    const base64 = body.replaceAll(/\s/g, "");
    if (/^[A-Za-z0-9+/]*={0,2}$/.test(base64)) {
      blocks.push({ label, bytes: new Uint8Array(Buffer.from(base64, "base64")), encrypted: false });
    } else if (body.includes(":")) blocks.push({ label, bytes: new Uint8Array(), encrypted });
  }
  return blocks;
}

/**
 * One PEM block.
 *
 * @param label - Words between BEGIN and the dashes.
 * @param bytes - What the block holds.
 * @returns The text, lines of 64 characters, with a newline at the end.
 * @see RFC 7468 section 2
 */
export function encodePem(label: string, bytes: Uint8Array): string {
  const base64 = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("base64");
  const lines = base64.match(/.{1,64}/g) ?? [];
  return [`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`, ""].join("\n");
}
