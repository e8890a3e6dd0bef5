import { type Certificate, type CreateCertificateOptions, createCertificate } from "../../src/index.ts";
import { testSigner } from "./keys.ts";

/** First and last second of every test certificate. */
export const VALIDITY = { notBefore: new Date("2026-01-01T00:00:00Z"), notAfter: new Date("2036-01-01T00:00:00Z") };

/** A self-signed certificate of the test key `name`. */
export async function testCertificate(
  name = "default",
  options: Partial<CreateCertificateOptions> = {},
): Promise<Certificate> {
  const signer = testSigner(name);
  const subject = { commonName: `leveret ${name}` };
  return await createCertificate({
    subject,
    publicKey: signer.publicKey,
    signer,
    serialNumber: 1n,
    ...VALIDITY,
    ...options,
  });
}
