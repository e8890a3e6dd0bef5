import { ask, type Supervisor } from "../control/connection.ts";
import { SandboxError } from "../errors.ts";
import {
  explanationSchema,
  type NetworkExplanation,
  type NetworkQuestion,
  type NetworkReport,
  type NetworkRules,
  networkReportSchema,
  type SecretGrant,
} from "./messages.ts";
import { readSecrets, type SecretSources } from "./secret-sources.ts";

const AT_RUN_TIME = "at run time";
const HTTPS_PORT = 443;

/** What a sandbox may reach, and what it has tried to. */
export class SandboxNetwork {
  readonly #supervisor: Supervisor;
  readonly #sources: SecretSources;

  /** Use {@link Sandbox.net}. */
  constructor(supervisor: Supervisor, sources: SecretSources) {
    this.#supervisor = supervisor;
    this.#sources = sources;
  }

  /** The rules that are in force, and what was allowed and refused so far. @throws {SandboxError} `SANDBOX_ENDED`. */
  async report(): Promise<NetworkReport> {
    return networkReportSchema.parse(await this.#ask({ kind: "log" }));
  }

  /**
   * What would become of a connection, and why. The name is looked up as it would be then.
   *
   * @param port - Default 443.
   * @param request - Which request it is about; without it, whether there is any that may be.
   * @throws {SandboxError} `SANDBOX_NETWORK_RULE` for what is no name of a host, `SANDBOX_ENDED`.
   */
  async why(
    host: string,
    port: number = HTTPS_PORT,
    request?: { readonly method: string; readonly target: string },
  ): Promise<NetworkExplanation> {
    return explanationSchema.parse(await this.#ask({ kind: "why", host, port, request }));
  }

  /**
   * Allows more, at once.
   *
   * @param rules - Such as `registry.example`, `*.example.org:8443`, `tcp://git.example:22`, `api.test=127.0.0.1:3000`,
   *   `api.example GET /v1/*`.
   * @throws {SandboxError} `SANDBOX_NETWORK_RULE`, `SANDBOX_ENDED`.
   */
  async allow(...rules: readonly string[]): Promise<void> {
    await this.#ask({ kind: "allow", rules: rules.map((text) => ({ text, source: AT_RUN_TIME })) });
  }

  /** Denies, at once and whatever allows it; what is open is closed. @throws As {@link SandboxNetwork.allow}. */
  async deny(...rules: readonly string[]): Promise<void> {
    await this.#ask({ kind: "deny", rules: rules.map((text) => ({ text, source: AT_RUN_TIME })) });
  }

  /**
   * Gives secrets, or other values of them: to a copy, which has none of those that it is a copy of, or when they have changed.
   * A program finds a new one when it is started.
   *
   * @param secrets - By where their values are: `TOKEN=env:VARIABLE@api.example`, `TOKEN=file:PATH@api.example`.
   * @throws {SandboxError} `SANDBOX_NETWORK_SECRET`, `SANDBOX_NETWORK_RULE`, `SANDBOX_ENDED`.
   */
  async grant(...secrets: readonly string[]): Promise<void> {
    await this.#ask({ kind: "secrets", secrets: [...(await readSecrets(secrets, this.#sources))] });
  }

  /** Whether the value of a secret is in a text, which is how to look for one without having it. @throws {SandboxError} `SANDBOX_ENDED`. */
  async reveals(text: string): Promise<boolean> {
    return (await this.#ask({ kind: "reveals", text })) === true;
  }

  /** Adds what options of a start come to. */
  async add({ allow, deny }: NetworkRules, secrets: readonly SecretGrant[]): Promise<void> {
    if (allow.length > 0) await this.#ask({ kind: "allow", rules: allow });
    if (deny.length > 0) await this.#ask({ kind: "deny", rules: deny });
    if (secrets.length > 0) await this.#ask({ kind: "secrets", secrets: [...secrets] });
  }

  async #ask(question: NetworkQuestion): Promise<unknown> {
    const reply = await ask(this.#supervisor, { kind: "network", question });
    if ("network" in reply) return reply.network;
    throw new SandboxError("SANDBOX_PROTOCOL", "expected an answer about the network, got none");
  }
}
