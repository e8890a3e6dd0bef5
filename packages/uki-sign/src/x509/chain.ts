import { createHash } from "node:crypto";
import { UkiSignError } from "../errors.ts";
import { verifyDigest } from "../rsa/verify.ts";
import { type Certificate, certificateKey } from "./certificate.ts";

/** Most certificates that are tried as issuers, embedded and trusted together. */
export const DEFAULT_MAX_CHAIN_CANDIDATES = 256;

/** Most signatures of certificates that are checked for one decision; each takes a fraction of a millisecond to two. */
export const DEFAULT_MAX_CHAIN_SIGNATURES = 256;

/** Longest chain that is followed, in certificates. */
export const DEFAULT_MAX_CHAIN_LENGTH = 8;

/** anyExtendedKeyUsage of RFC 5280 section 4.2.1.12 */
const ANY_EXTENDED_KEY_USAGE = "2.5.29.37.0";

/** What {@link verifyChain} asks of a chain. */
export interface VerifyChainOptions {
  /** certificates that are trusted as they are, self-signed or not */
  readonly trusted: readonly Certificate[];
  /** certificates that may stand in between; nothing is trusted because of being here */
  readonly intermediates?: readonly Certificate[] | undefined;
  /** purpose that every certificate below the trusted one has, or does not restrict: a dotted object identifier */
  readonly extendedKeyUsage?: string | undefined;
  /** time at which every certificate of the chain is valid; validity is not looked at without it, as firmware does */
  readonly at?: Date | undefined;
}

/** Whether a key signed a certificate; `unknown` for algorithms and keys that are not verified here. */
type SignatureCheck = "right" | "wrong" | "unknown";

/** Who signed which certificate: each pair is looked at once, and all of them together are limited. */
export class IssuerChecks {
  readonly #known = new Map<string, SignatureCheck>();

  /** {@link isSignedBy} for one decision. */
  isSignedBy(certificate: Certificate, issuer: Certificate): boolean {
    return this.#check(certificate, issuer) === "right";
  }

  /** Whether `issuer`'s key may have signed `certificate`: also when nothing here can tell. */
  maybeSignedBy(certificate: Certificate, issuer: Certificate): boolean {
    return this.#check(certificate, issuer) !== "wrong";
  }

  #check(certificate: Certificate, issuer: Certificate): SignatureCheck {
    const pair = `${certificate.fingerprint} ${issuer.fingerprint}`;
    const known = this.#known.get(pair);
    if (known !== undefined) return known;
    if (this.#known.size >= DEFAULT_MAX_CHAIN_SIGNATURES) {
      const message = `expected chains with at most ${DEFAULT_MAX_CHAIN_SIGNATURES} signatures to check, got more`;
      throw new UkiSignError("UKI_SIGN_TOO_LARGE", message, { hint: "too many certificates have the same name" });
    }
    const check = checkSignature(certificate, issuer);
    this.#known.set(pair, check);
    return check;
  }
}

/**
 * Finds the chain from a certificate to a trusted one.
 *
 * @param certificate - Where the chain starts; a trusted certificate is a chain by itself.
 * @param options - What is trusted, and what else is asked.
 * @returns The chain, `certificate` first, the trusted one last.
 * @throws {UkiSignError} `UKI_SIGN_UNTRUSTED` when no acceptable chain ends in a trusted certificate, `UKI_SIGN_TOO_LARGE`
 *   with more than {@link DEFAULT_MAX_CHAIN_CANDIDATES} certificates, or more than {@link DEFAULT_MAX_CHAIN_SIGNATURES}
 *   signatures to check.
 * @see RFC 5280 section 6.1, without policies, name constraints and revocation, which UEFI does not have
 * @example
 * verifyChain(signer, { trusted: [decodeCertificate(await readFile("db.pem"))] });
 */
export function verifyChain(certificate: Certificate, options: VerifyChainOptions): Certificate[] {
  return findChain(certificate, options, new IssuerChecks());
}

/** {@link verifyChain} as a part of a decision. */
export function findChain(certificate: Certificate, options: VerifyChainOptions, checks: IssuerChecks): Certificate[] {
  const trusted = new Set(options.trusted.map(({ fingerprint }) => fingerprint));
  const candidates = [...options.trusted, ...(options.intermediates ?? [])];
  if (candidates.length > DEFAULT_MAX_CHAIN_CANDIDATES) {
    const message = `expected at most ${DEFAULT_MAX_CHAIN_CANDIDATES} possible issuers, got ${candidates.length}`;
    throw new UkiSignError("UKI_SIGN_TOO_LARGE", message);
  }
  const seen = new Set<string>();
  const open: Certificate[][] = [[certificate]];
  let objection: string | undefined;
  // Breadth first, each certificate once; each may be compared with every candidate, which `checks` bounds.
  for (let chain = open.shift(); chain !== undefined; chain = open.shift()) {
    const last = chain.at(-1) ?? certificate;
    const found = objectionTo(last, options);
    objection ??= found;
    if (found !== undefined) continue;
    if (trusted.has(last.fingerprint)) return chain;
    if (chain.length >= DEFAULT_MAX_CHAIN_LENGTH) continue;
    for (const issuer of candidates) {
      if (seen.has(issuer.fingerprint) || !mayIssue(issuer, last, chain.length - 1)) continue;
      if (!checks.isSignedBy(last, issuer)) continue;
      seen.add(issuer.fingerprint);
      open.push([...chain, issuer]);
    }
  }
  if (objection !== undefined) throw new UkiSignError("UKI_SIGN_UNTRUSTED", objection);
  const message = `expected a certificate that a trusted one issued, got ${certificate.subject}`;
  throw new UkiSignError("UKI_SIGN_UNTRUSTED", message, {
    hint: `its issuer is ${certificate.issuer}; trusted: ${options.trusted.map(({ subject }) => subject).join("; ") || "none"}`,
  });
}

/**
 * Whether `issuer`'s key signed `certificate`. Names, validity and purposes are not looked at.
 *
 * @param certificate - The certificate with the signature.
 * @param issuer - The certificate with the key; the same one to check a self-signed certificate.
 * @returns False also for algorithms other than RSA with SHA-256, SHA-384 or SHA-512.
 */
export function isSignedBy(certificate: Certificate, issuer: Certificate): boolean {
  return checkSignature(certificate, issuer) === "right";
}

function checkSignature(certificate: Certificate, issuer: Certificate): SignatureCheck {
  const { signatureScheme: scheme, tbs, signature } = certificate;
  if (scheme === undefined) return "unknown";
  try {
    const digest = createHash(scheme.hash).update(tbs).digest();
    return verifyDigest(certificateKey(issuer), scheme, digest, signature) ? "right" : "wrong";
  } catch (error) {
    if (error instanceof UkiSignError) return "unknown";
    throw error;
  }
}

/** Why a certificate cannot be part of the chain, whoever issued it; undefined when it can. */
function objectionTo(certificate: Certificate, { at, extendedKeyUsage }: VerifyChainOptions): string | undefined {
  const { subject, notBefore, notAfter, unknownCriticalExtensions } = certificate;
  const [unknown] = unknownCriticalExtensions;
  if (unknown !== undefined) return `expected extensions that are known here, got ${unknown} in ${subject}`;
  if (at !== undefined && (at < notBefore || at > notAfter)) {
    const validity = `${notBefore.toISOString()} to ${notAfter.toISOString()}`;
    return `expected a certificate that is valid at ${at.toISOString()}, got ${subject}, valid ${validity}`;
  }
  const purposes = certificate.extendedKeyUsage;
  if (extendedKeyUsage === undefined || purposes === undefined) return undefined;
  if (purposes.includes(extendedKeyUsage) || purposes.includes(ANY_EXTENDED_KEY_USAGE)) return undefined;
  return `expected a certificate for the purpose ${extendedKeyUsage}, got ${subject}, which is for ${purposes.join(", ")}`;
}

/** @param below - certificates between the issuer and the end of the chain, which pathLenConstraint counts */
function mayIssue(issuer: Certificate, certificate: Certificate, below: number): boolean {
  if (!issuer.isCa || Buffer.compare(issuer.subjectDer, certificate.issuerDer) !== 0) return false;
  if (issuer.keyUsage !== undefined && !issuer.keyUsage.includes("keyCertSign")) return false;
  return issuer.pathLength === undefined || below <= issuer.pathLength;
}
