import { randomBytes } from "node:crypto";
import { encodeIndirectData } from "../authenticode/indirect-data.ts";
import { whatIsSigned } from "../cms/sign.ts";
import { UkiSignError } from "../errors.ts";
import { OID } from "../format/oids.ts";
import { toHex } from "../internal/bytes.ts";
import type { PemSigner } from "../keys/signer.ts";
import type { HashName, RsaPadding } from "../rsa/scheme.ts";
import {
  DEFAULT_MAX_REMOTE_OUTCOMES,
  DEFAULT_MAX_REMOTE_REQUESTS,
  DEFAULT_MAX_REMOTE_REQUESTS_OF_CLIENT,
  type DigestToSign,
  type SigningDescription,
  type SigningRequest,
} from "./protocol.ts";

/** What happened to a request, for who watches a remote signer. */
export interface SigningEvent {
  readonly event: "asked" | "approved" | "refused" | "signed" | "expired" | "failed";
  readonly request: SigningRequest;
  /** who did it: a client, an approver; absent for what time did */
  readonly by?: string | undefined;
  /** why the key did not sign */
  readonly error?: unknown;
}

/** How a remote signer decides. */
export interface DecisionOptions {
  readonly signer: PemSigner;
  /** how many different approvers have to approve */
  readonly approvals: number;
  /** how long a request waits for them, and how long its outcome is kept, in `milliseconds` */
  readonly expireMs: number;
  /** whether digests are signed that nothing is known about */
  readonly anyDigest: boolean;
  readonly onEvent: (event: SigningEvent) => void;
}

interface Ask {
  readonly hash: HashName;
  readonly padding: RsaPadding;
  readonly digest: string;
  readonly description?: SigningDescription | undefined;
  readonly more?: readonly DigestToSign[] | undefined;
}

interface Entry {
  request: SigningRequest;
  /** ends the wait for a decision, or the memory of one */
  timer: NodeJS.Timeout | undefined;
  readonly watchers: Set<() => void>;
}

/** The requests of a remote signer, from the question to the signature. */
export class SigningRequests {
  readonly #options: DecisionOptions;
  /** those that wait for a decision, or for the key, in the order of their questions */
  readonly #waiting = new Map<string, Entry>();
  /** those that are decided, in the order of the decisions */
  readonly #decided = new Map<string, Entry>();

  constructor(options: DecisionOptions) {
    this.#options = options;
  }

  /** Takes a request; the same one again, while it is known, is the one there is. */
  async ask(client: string, ask: Ask): Promise<SigningRequest> {
    const { description } = ask;
    if (description === undefined && !this.#options.anyDigest) {
      throw new UkiSignError("UKI_SIGN_REMOTE", "expected a description of what is signed, got a digest alone");
    }
    if (description !== undefined && ask.more !== undefined) {
      throw new UkiSignError("UKI_SIGN_REMOTE", "expected one digest with a description, got more");
    }
    if (description !== undefined && digestOf(description, ask.hash) !== ask.digest) {
      throw new UkiSignError(
        "UKI_SIGN_REMOTE",
        "expected the digest that follows from the description, got another one",
      );
    }
    const entries = [...this.#waiting.values(), ...this.#decided.values()];
    const known = entries.find(({ request }) => isSame(request, client, ask));
    if (known !== undefined) return known.request;
    this.#requireRoom(client);
    const id = randomBytes(16).toString("hex");
    const request: SigningRequest = {
      kind: "uki-signing-request",
      version: 1,
      id,
      client,
      state: "pending",
      ...ask,
      approvals: [],
      approvalsNeeded: this.#options.approvals,
      expiresAt: new Date(Date.now() + this.#options.expireMs).toISOString(),
    };
    const entry: Entry = { request, timer: undefined, watchers: new Set() };
    entry.timer = setTimeout(
      () => this.#end(entry, { state: "expired" }, "expired", undefined),
      this.#options.expireMs,
    );
    entry.timer.unref();
    this.#waiting.set(id, entry);
    this.#options.onEvent({ event: "asked", request, by: client });
    if (this.#options.approvals === 0) await this.#sign(entry, undefined);
    return entry.request;
  }

  /** A request that is known. */
  get(id: string): SigningRequest {
    return this.#entry(id).request;
  }

  /** Requests that wait, oldest first. */
  pending(): SigningRequest[] {
    return [...this.#waiting.values()].map(({ request }) => request);
  }

  /** Waits until a request is decided, or for as long as `signal` lets it. */
  async decided(id: string, signal: AbortSignal): Promise<SigningRequest> {
    const entry = this.#entry(id);
    if (entry.request.state === "pending" && !signal.aborted) {
      await new Promise<void>((resolve) => {
        const end = (): void => {
          entry.watchers.delete(end);
          signal.removeEventListener("abort", end);
          resolve();
        };
        entry.watchers.add(end);
        signal.addEventListener("abort", end, { once: true });
      });
    }
    return entry.request;
  }

  /** Takes the decision of an approver, who has to say which digests it is about. */
  async decide(
    approver: string,
    id: string,
    digests: readonly string[],
    decision: "approve" | "refuse",
  ): Promise<SigningRequest> {
    const entry = this.#entry(id);
    const { request } = entry;
    if (
      digests.join() !==
      digestsOf(request)
        .map(({ digest }) => digest)
        .join()
    ) {
      throw new UkiSignError("UKI_SIGN_REMOTE", "expected a decision about the digest of the request, got another one");
    }
    if (request.state !== "pending") {
      throw new UkiSignError("UKI_SIGN_REMOTE", `expected a request that waits, got one that is ${request.state}`);
    }
    if (decision === "refuse") {
      this.#end(entry, { state: "refused", refusedBy: approver }, "refused", approver);
      return entry.request;
    }
    // Approving twice is approving once.
    if (!request.approvals.includes(approver)) {
      entry.request = { ...request, approvals: [...request.approvals, approver] };
      this.#options.onEvent({ event: "approved", request: entry.request, by: approver });
      if (entry.request.approvals.length === request.approvalsNeeded) await this.#sign(entry, approver);
    }
    return entry.request;
  }

  /** Forgets everything; who waits is told what is known. */
  close(): void {
    for (const entries of [this.#waiting, this.#decided]) {
      for (const entry of entries.values()) {
        clearTimeout(entry.timer);
        for (const watcher of entry.watchers) watcher();
      }
      entries.clear();
    }
  }

  /** What waits is limited, for each client too: one that asks without end does not keep the others from asking. */
  #requireRoom(client: string): void {
    const own = this.pending().filter((request) => request.client === client).length;
    const refuse = (most: number, whose: string): never => {
      throw new UkiSignError(
        "UKI_SIGN_REMOTE_BUSY",
        `expected at most ${most} requests ${whose} to wait, got one more`,
      );
    };
    if (own >= DEFAULT_MAX_REMOTE_REQUESTS_OF_CLIENT) refuse(DEFAULT_MAX_REMOTE_REQUESTS_OF_CLIENT, `of ${client}`);
    if (this.#waiting.size >= DEFAULT_MAX_REMOTE_REQUESTS) refuse(DEFAULT_MAX_REMOTE_REQUESTS, "of all clients");
  }

  /** Outcomes are limited by forgetting: of the client that has most of them, what was decided first. */
  #forgetOutcomes(): void {
    while (this.#decided.size > DEFAULT_MAX_REMOTE_OUTCOMES) {
      const ofClient = new Map<string, Entry[]>();
      for (const entry of this.#decided.values()) {
        const { client } = entry.request;
        ofClient.set(client, [...(ofClient.get(client) ?? []), entry]);
      }
      const [most = []] = [...ofClient.values()].sort((one, other) => other.length - one.length);
      const [oldest] = most;
      if (oldest === undefined) return;
      clearTimeout(oldest.timer);
      this.#decided.delete(oldest.request.id);
    }
  }

  async #sign(entry: Entry, by: string | undefined): Promise<void> {
    const { signer } = this.#options;
    const { padding, more } = entry.request;
    try {
      const signatures: string[] = [];
      for (const { hash, digest } of digestsOf(entry.request)) {
        const signature = await signer.signDigest(hash, new Uint8Array(Buffer.from(digest, "hex")), padding);
        signatures.push(Buffer.from(signature).toString("base64"));
      }
      const [signature, ...others] = signatures;
      const outcome = {
        state: "signed",
        signature,
        ...(more === undefined ? {} : { moreSignatures: others }),
      } as const;
      this.#end(entry, outcome, "signed", by);
    } catch (error) {
      this.#end(entry, { state: "failed" }, "failed", by, error);
    }
  }

  #end(
    entry: Entry,
    outcome: Partial<SigningRequest>,
    event: SigningEvent["event"],
    by: string | undefined,
    error?: unknown,
  ): void {
    const { id } = entry.request;
    // While the key was at work, time may have run out, somebody refused, or the server was closed.
    if (!this.#waiting.delete(id)) return;
    clearTimeout(entry.timer);
    entry.request = { ...entry.request, ...outcome };
    for (const watcher of entry.watchers) watcher();
    entry.watchers.clear();
    this.#options.onEvent({ event, request: entry.request, by, error });
    // The outcome stays for as long as a client may need to ask for it.
    entry.timer = setTimeout(() => this.#decided.delete(id), this.#options.expireMs);
    entry.timer.unref();
    this.#decided.set(id, entry);
    this.#forgetOutcomes();
  }

  #entry(id: string): Entry {
    const entry = this.#waiting.get(id) ?? this.#decided.get(id);
    if (entry !== undefined) return entry;
    throw unknownRequest();
  }
}

/** What is said about a request that there is not, or not for who asks. */
export function unknownRequest(): UkiSignError {
  return new UkiSignError("UKI_SIGN_REMOTE", "expected a request that is known, got none");
}

/** Everything that a request is about, in its order. */
export function digestsOf({ hash, digest, more = [] }: Ask): DigestToSign[] {
  return [{ hash, digest }, ...more];
}

/** What a signature of this kind is over. */
export function digestOf(description: SigningDescription, hash: HashName): string | undefined {
  const digest = new Uint8Array(Buffer.from(description.digest, "hex"));
  try {
    const content = encodeIndirectData({ hash, digest });
    const signingTime = description.signingTime === undefined ? undefined : new Date(description.signingTime);
    const options = { contentType: OID.spcIndirectData, content, detached: false, attributes: [], signingTime, hash };
    return toHex(whatIsSigned(options).digest);
  } catch (error) {
    // A digest of another hash, or a time that no signature can state.
    if (error instanceof UkiSignError || error instanceof TypeError) return undefined;
    throw error;
  }
}

function isSame(request: SigningRequest, client: string, ask: Ask): boolean {
  const open = request.state === "pending" || request.state === "signed";
  const text = (asked: Ask): string => JSON.stringify(digestsOf(asked).map(({ hash, digest }) => [hash, digest]));
  const same = request.padding === ask.padding && text(request) === text(ask);
  return open && same && request.client === client;
}
