import { once } from "node:events";
import { resolve } from "node:path";
import { type CommandIo, UsageError, writeJson } from "@leveret/command";
import type { Command } from "commander";
import { authenticodeDigest } from "../authenticode/digest.ts";
import { type Bytes, fileSource } from "../bytes/byte-source.ts";
import { UkiSignError } from "../errors.ts";
import { toHex } from "../internal/bytes.ts";
import { predictPcrPolicies } from "../pcr/policy.ts";
import type { SigningRequest } from "../remote/protocol.ts";
import { digestOf, digestsOf } from "../remote/requests.ts";
import { startSigningServer } from "../remote/server.ts";
import { decideSigningRequest, listSigningRequests, type RemoteSignerOptions } from "../remote/signer.ts";
import { inspectUki, measuredSections } from "../uki/inspect.ts";
import { collect, parseDigest, parseInteger } from "./arguments.ts";
import { CommandFiles } from "./command-files.ts";
import { KEY_VALUE, OpenKeys, PASSPHRASE_FILE, readPassphrase, requireToken } from "./open-keys.ts";
import { renderEvent, renderRequest } from "./signing-request.ts";

interface ServeFlags {
  readonly key: string;
  readonly passphraseFile?: string;
  readonly clients: string;
  readonly approvers?: string;
  readonly approvals: number;
  readonly expire: number;
  readonly anyDigest?: boolean;
  readonly listen: string;
  readonly tlsCertificate?: string;
  readonly tlsKey?: string;
}

interface ApproveFlags {
  readonly image?: string;
  readonly digest?: readonly string[];
  readonly tokenFile?: string;
  readonly json?: boolean;
}

/** `uki-sign signer` */
export function addSignerCommand(program: Command, io: CommandIo): void {
  const group = program
    .command("signer")
    .description("keep a key on a machine of its own: sign for others, and look at what they want to have signed");
  addServe(group, io);
  addRequests(group, io);
  addApprove(group, io);
  addRefuse(group, io);
}

function addServe(group: Command, io: CommandIo): void {
  group
    .command("serve")
    .description(
      "sign images for clients, each once enough approvers have looked at it; ends with Ctrl-C; token files have lines of a name and a token of at least 32 characters",
    )
    .requiredOption("--key <key>", KEY_VALUE)
    .option("--passphrase-file <file>", PASSPHRASE_FILE)
    .requiredOption("--clients <file>", "tokens of those who may ask")
    .option("--approvers <file>", "tokens of those who may approve")
    .option("--approvals <number>", "how many of them have to; one refusal refuses", parseInteger, 1)
    .option("--expire <seconds>", "how long a request waits", parseInteger, 600)
    .option("--any-digest", "sign digests too about which nothing can be checked: policies, variables, certificates")
    .option("--listen <address>", "HOST:PORT or unix:PATH", "127.0.0.1:8765")
    .option("--tls-certificate <file>", "certificate chain of this server, PEM; needed beyond this machine")
    .option("--tls-key <file>", "its private key, PEM")
    .addHelpText(
      "after",
      `
Examples:
  echo "builder $(openssl rand -hex 32)" > clients
  uki-sign signer serve --key db.key --clients clients --approvers approvers --approvals 2
  uki-sign signer serve --key 'pkcs11:token=hare;object=db' --clients clients --approvals 0 --listen unix:/run/db.sock`,
    )
    .action(async (flags: ServeFlags) => {
      const { tlsCertificate, tlsKey, approvals } = flags;
      if ((tlsCertificate === undefined) !== (tlsKey === undefined)) {
        throw new UsageError("expected --tls-certificate and --tls-key together, got one of them");
      }
      await using files = new CommandFiles(io);
      const text = async (path: string): Promise<string> => Buffer.from(await files.read(path)).toString("utf8");
      const clients = readTokens(flags.clients, await text(flags.clients));
      const approvers = flags.approvers === undefined ? {} : readTokens(flags.approvers, await text(flags.approvers));
      const tls =
        tlsCertificate === undefined || tlsKey === undefined
          ? undefined
          : { certificate: await text(tlsCertificate), key: await text(tlsKey) };
      await using keys = new OpenKeys(io, files, flags.passphraseFile);
      await using server = await startSigningServer({
        signer: await keys.signer(flags.key),
        clients,
        approvers,
        approvals,
        expireMs: flags.expire * 1000,
        anyDigest: flags.anyDigest,
        tls,
        ...parseListen(flags.listen),
        onEvent: (event) => io.stdout.write(`${renderEvent(io, event)}\n`),
      });
      const who =
        approvals === 0 ? "without approvals" : `${approvals} of ${Object.keys(approvers).join(", ")} approve`;
      io.stdout.write(`${server.address}: signs for ${Object.keys(clients).join(", ")}, ${who}\n`);
      if (!io.signal.aborted) await once(io.signal, "abort");
    });
}

function addRequests(group: Command, io: CommandIo): void {
  group
    .command("requests")
    .description("show what waits for approvals")
    .argument("<address>", "https://HOST:PORT, http://127.0.0.1:PORT or unix:/PATH")
    .option("--token-file <file>", "file with an approver's token; without it the terminal is asked")
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  uki-sign signer requests http://127.0.0.1:8765 --token-file token")
    .action(async (address: string, flags: ApproveFlags) => {
      const requests = await listSigningRequests(address, await callerOf(io, address, flags));
      if (flags.json) writeJson(io, { kind: "uki-signing-requests", version: 1, requests });
      else io.stdout.write(requests.length === 0 ? "nothing waits\n" : `${requests.map(renderRequest).join("\n\n")}\n`);
    });
}

function addApprove(group: Command, io: CommandIo): void {
  group
    .command("approve")
    .description("approve a request, about an image that you have looked at yourself")
    .argument("<address>", "https://HOST:PORT, http://127.0.0.1:PORT or unix:/PATH")
    .argument("<id>", "identifier of the request")
    .option(
      "--image <file>",
      "the unsigned image, or a signed copy: refuses to approve a signature about another one, and policies for another one",
    )
    .option(
      "--digest <hex>",
      "its Authenticode digest instead, or a digest of a request that describes nothing; several allowed",
      collect,
    )
    .option("--token-file <file>", "file with an approver's token; without it the terminal is asked")
    .option("--json", "print one JSON document")
    .addHelpText(
      "after",
      "\nExample:\n  uki-sign signer approve http://127.0.0.1:8765 ID --image linux.efi --token-file token",
    )
    .action(async (address: string, id: string, flags: ApproveFlags) => {
      if ((flags.image === undefined) === (flags.digest === undefined)) {
        throw new UsageError("expected --image or --digest to say what is approved, and not both");
      }
      const caller = await callerOf(io, address, flags);
      const request = findRequest(await listSigningRequests(address, caller), id);
      await requireDigest(io, request, flags);
      report(io, await decideSigningRequest(address, request, "approve", caller), flags.json);
    });
}

function addRefuse(group: Command, io: CommandIo): void {
  group
    .command("refuse")
    .description("refuse a request, whoever else approved it")
    .argument("<address>", "https://HOST:PORT, http://127.0.0.1:PORT or unix:/PATH")
    .argument("<id>", "identifier of the request")
    .option("--token-file <file>", "file with an approver's token; without it the terminal is asked")
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  uki-sign signer refuse http://127.0.0.1:8765 ID --token-file token")
    .action(async (address: string, id: string, flags: ApproveFlags) => {
      const caller = await callerOf(io, address, flags);
      const request = findRequest(await listSigningRequests(address, caller), id);
      report(io, await decideSigningRequest(address, request, "refuse", caller), flags.json);
    });
}

function report(io: CommandIo, request: SigningRequest, json: boolean | undefined): void {
  if (json) writeJson(io, request);
  else {
    const { id, state, approvals, approvalsNeeded } = request;
    io.stdout.write(`${id}: ${state}, ${approvals.length} of ${approvalsNeeded} approvals\n`);
  }
}

async function callerOf(io: CommandIo, address: string, flags: ApproveFlags): Promise<RemoteSignerOptions> {
  const token = await readPassphrase(io, new CommandFiles(io), flags.tokenFile, `Token for ${address}: `);
  return { token: requireToken(address, token), signal: io.signal };
}

function findRequest(requests: readonly SigningRequest[], id: string): SigningRequest {
  const request = requests.find((candidate) => candidate.id === id);
  if (request !== undefined) return request;
  throw new UkiSignError("UKI_SIGN_REMOTE", `expected request ${id} to wait, got ${requests.length} others`);
}

/** Compares what a person has looked at with what would be signed, without taking the signer's word for anything. */
async function requireDigest(io: CommandIo, request: SigningRequest, flags: ApproveFlags): Promise<void> {
  const { description, hash } = request;
  if (description !== undefined && digestOf(description, hash) !== request.digest) {
    const message = "expected a request whose digest follows from its description, got another one";
    throw new UkiSignError("UKI_SIGN_DIGEST_MISMATCH", message);
  }
  const seen = new Set(flags.digest?.map((digest) => toHex(parseDigest(digest))));
  if (flags.image !== undefined) {
    await using image = await fileSource(resolve(io.cwd, flags.image));
    if (description !== undefined) seen.add(toHex(authenticodeDigest(image, hash)));
    else for (const digest of policyDigests(image)) seen.add(digest);
  }
  const wanted = description === undefined ? digestsOf(request).map(({ digest }) => digest) : [description.digest];
  const unseen = wanted.find((digest) => !seen.has(digest));
  if (unseen === undefined) return;
  const what = description === undefined && flags.image !== undefined ? `policies for ${flags.image}` : flags.image;
  const message = `expected a request about ${what ?? [...seen].join(", ")}, got one about ${unseen}`;
  throw new UkiSignError("UKI_SIGN_DIGEST_MISMATCH", message, { path: flags.image });
}

/** What signers of PCR policies sign for an image: for each profile, in each bank, after each phase of a boot. */
function policyDigests(image: Bytes): string[] {
  const profiles = Math.max(1, inspectUki(image).profiles.length);
  return Array.from({ length: profiles }, (_, profile) =>
    predictPcrPolicies({ sections: measuredSections(image, { profile }) }),
  ).flatMap((policies) => policies.map(({ digest }) => toHex(digest)));
}

/** Lines of a name and a token; empty ones and those that begin with # are skipped. No message holds a token. */
function readTokens(path: string, text: string): Record<string, string> {
  const tokens: Record<string, string> = {};
  for (const [index, line] of text.split("\n").entries()) {
    if (/^\s*(#|$)/.test(line)) continue;
    const [, name = "", token = ""] = /^\s*([\w.@-]{1,64})\s+([\x21-\x7e]{32,512})\s*$/.exec(line) ?? [];
    const where = `in line ${index + 1} of ${path}`;
    if (name === "") {
      throw new UkiSignError(
        "UKI_SIGN_BAD_OPTIONS",
        `expected a name and a token of 32 characters or more ${where}, got something else`,
        { path },
      );
    }
    if (Object.hasOwn(tokens, name)) {
      throw new UkiSignError("UKI_SIGN_BAD_OPTIONS", `expected ${name} once, got it again ${where}`, { path });
    }
    tokens[name] = token;
  }
  return tokens;
}

function parseListen(text: string): { host: string; port: number } | { socketPath: string } {
  if (text.startsWith("unix:")) return { socketPath: text.slice("unix:".length) };
  const [, host = "", port = ""] = /^(.+):(\d{1,5})$/.exec(text) ?? [];
  if (host === "" || Number(port) > 65_535)
    throw new UsageError(`expected HOST:PORT or unix:PATH, got ${JSON.stringify(text)}`);
  return { host: host.replace(/^\[|\]$/g, ""), port: Number(port) };
}
