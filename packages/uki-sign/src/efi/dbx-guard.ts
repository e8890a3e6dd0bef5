import { createHash } from "node:crypto";
import { readCertificate, signatureDatabase } from "../authenticode/database.ts";
import { type PeSignatureDatabase, verifyPe } from "../authenticode/verify.ts";
import type { Bytes } from "../bytes/byte-source.ts";
import { UkiSignError } from "../errors.ts";
import { SIGNATURE_OWNER_BYTES } from "../format/efi.ts";
import * as tcg from "../format/tcg.ts";
import { toHex } from "../internal/bytes.ts";
import { decodeEventContent } from "../tcg/event-content.ts";
import type { EventLog, TcgEvent } from "../tcg/event-log.ts";
import { decodeSignatureLists } from "./signature-list.ts";

/** What a machine boots. */
export interface InUse {
  /** images, and what they are called in errors */
  readonly images?: readonly { readonly name: string; readonly image: Bytes }[] | undefined;
  /** event log of a boot that has to be possible again */
  readonly log?: EventLog | undefined;
}

/** Hashes by which a log can name an image as dbx does. */
const DIGESTS = ["sha256", "sha384", "sha512"] as const;

/**
 * Refuses revocations that would keep a machine from booting: of an image in use, of its signer, or of a certificate above
 * that.
 *
 * @param dbx - What is to be forbidden: certificates, image digests, certificate hashes; or the variable's value.
 * @param inUse - The images that have to boot, the log of a boot that went well, or both.
 * @throws {UkiSignError} `UKI_SIGN_DBX_IN_USE` naming what would be forbidden; what `verifyPe` throws for images that are none.
 * @see UEFI 2.10 section 32.5.3.3
 * @example
 * const log = decodeEventLog(await readFile("binary_bios_measurements"));
 * assertDbxSpares(await readFile("dbx.esl"), { log, images: [{ name: "linux.efi", image }] });
 */
export function assertDbxSpares(dbx: PeSignatureDatabase | Uint8Array, inUse: InUse): void {
  const forbidden = dbx instanceof Uint8Array ? signatureDatabase(decodeSignatureLists(dbx)) : dbx;
  for (const { name, image } of inUse.images ?? []) {
    try {
      verifyPe(image, { db: {}, dbx: forbidden });
    } catch (error) {
      if (!(error instanceof UkiSignError)) throw error;
      if (error.code === "UKI_SIGN_REVOKED") throw spares(`${name}, which is in use: ${error.message}`, error);
      // Whether it is trusted, or signed at all, is not asked here; whether it can be read is.
      if (error.code !== "UKI_SIGN_UNTRUSTED" && error.code !== "UKI_SIGN_UNSIGNED") throw error;
    }
  }
  for (const event of inUse.log?.events ?? []) {
    const what = forbiddenBy(event, forbidden);
    if (what !== undefined) throw spares(`${what}, which the log's event ${event.index} needed`);
  }
}

/** What of an event a database forbids: the image it measured, or the entry of db that let one start. */
function forbiddenBy(event: TcgEvent, dbx: PeSignatureDatabase): string | undefined {
  if (IMAGES.has(event.type)) {
    const digests = DIGESTS.flatMap((hash) => event.digests[hash] ?? []);
    const found = (dbx.digests ?? []).find((digest) => digests.some((own) => Buffer.compare(own, digest) === 0));
    return found && `the image ${toHex(found)}`;
  }
  if (event.type !== tcg.EV_EFI_VARIABLE_AUTHORITY) return undefined;
  const content = decodeEventContent(event);
  if (content.kind !== "variable" || content.name !== "db") return undefined;
  const certificate = readCertificate(content.data.subarray(SIGNATURE_OWNER_BYTES));
  if (certificate === undefined) return undefined;
  const hashes = DIGESTS.map((hash) => createHash(hash).update(certificate.tbs).digest("hex"));
  const named = (dbx.certificates ?? []).some(({ fingerprint }) => fingerprint === certificate.fingerprint);
  const hashed = (dbx.certificateHashes ?? []).some((hash) => hashes.includes(toHex(hash)));
  return named || hashed ? `the certificate ${certificate.subject}` : undefined;
}

const IMAGES: ReadonlySet<number> = new Set([
  tcg.EV_EFI_BOOT_SERVICES_APPLICATION,
  tcg.EV_EFI_BOOT_SERVICES_DRIVER,
  tcg.EV_EFI_RUNTIME_SERVICES_DRIVER,
]);

function spares(what: string, cause?: UkiSignError): UkiSignError {
  return new UkiSignError(
    "UKI_SIGN_DBX_IN_USE",
    `expected dbx to spare what machines boot, got an entry against ${what}`,
    {
      cause,
      hint: "sign it with another key and boot that first",
    },
  );
}
