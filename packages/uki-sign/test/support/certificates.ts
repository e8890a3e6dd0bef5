import { type Certificate, type CreateCertificateOptions, createCertificate } from "../../src/index.ts";
import { testSigner } from "./keys.ts";

/** First and last second of every test certificate. */
export const VALIDITY = { notBefore: new Date("2026-01-01T00:00:00Z"), notAfter: new Date("2036-01-01T00:00:00Z") };

/** A certificate with the test key `name`, self-signed unless `options` say otherwise. */
export async function testCertificate(
  name = "default",
  options: Partial<CreateCertificateOptions> = {},
): Promise<Certificate> {
  const subject = { commonName: `leveret ${name}` };
  return await createCertificate({
    subject,
    publicKey: options.publicKey ?? testSigner(name).publicKey,
    signer: options.signer ?? testSigner(name),
    serialNumber: 1n,
    ...VALIDITY,
    ...options,
  });
}
