import { type CommandIo, formatBytes, style, table } from "@leveret/command";
import type { SigningDescription, SigningRequest } from "../remote/protocol.ts";
import { digestOf, digestsOf, type SigningEvent } from "../remote/requests.ts";
import { printable } from "./arguments.ts";

/** Where what a client claims is broken into lines, in characters: it never reaches the edge of a terminal. */
const CLAIM_WIDTH = 60;

/** One line about what happened at a remote signer, and a whole request when it is new. */
export function renderEvent(io: CommandIo, { event, request, by, error }: SigningEvent): string {
  const colours = {
    asked: "yellow",
    approved: "cyan",
    refused: "red",
    signed: "green",
    expired: "red",
    failed: "red",
  } as const;
  const what = style(io.stdout, io.env, colours[event], event);
  const who = by === undefined ? "" : ` by ${by}`;
  const line = `${new Date().toISOString()} ${what} ${request.id}${who}`;
  if (event === "asked") return `${line}\n${renderRequest(request)}`;
  if (event === "failed") return `${line}: ${printable(error instanceof Error ? error.message : String(error))}`;
  return `${line}, ${request.approvals.length} of ${request.approvalsNeeded} approvals`;
}

/** What a request is about: first what has been checked, then what is only said. Nothing of it is left out. */
export function renderRequest(request: SigningRequest): string {
  const { id, client, hash, padding, digest, description, expiresAt, approvals } = request;
  const rows = [
    ["request", id],
    ["client", client],
    ["expires", expiresAt],
    ...(approvals.length === 0 ? [] : [["approved", `by ${approvals.join(", ")}`]]),
    ...digestsOf(request).map((each) => ["signs", `${each.hash} ${each.digest}, ${padding}`]),
  ];
  if (description === undefined) rows.push(["checked", "nothing: a digest can be of anything"]);
  else if (digestOf(description, hash) !== digest)
    rows.push(["wrong", "the digest does not follow from the description"]);
  else {
    const time = description.signingTime === undefined ? "no time" : `the time ${description.signingTime}`;
    rows.push(["checked", `Authenticode signature about the image with digest ${description.digest}, stating ${time}`]);
    rows.push(...claimsIn(description));
  }
  return table(rows.map(([name = "", value = ""]) => ["", name, value]));
}

function claimsIn({ name, sizeBytes, osRelease, cmdline, profiles = [], sections }: SigningDescription): string[][] {
  const texts = (whose: string, own: { osRelease?: string | undefined; cmdline?: string | undefined }): string[][] => [
    ...(own.osRelease === undefined ? [] : claim(`os-release${whose}`, own.osRelease)),
    ...(own.cmdline === undefined ? [] : claim(`cmdline${whose}`, own.cmdline)),
  ];
  return [
    ...claim(`file of ${formatBytes(sizeBytes)}`, name),
    ...texts("", { osRelease, cmdline }),
    ...profiles.flatMap((own, index) => [
      ...claim(`profile ${index}`, own.profile),
      ...texts(` of profile ${index}`, own),
    ]),
    ...sections.flatMap((section) => [
      ...claim(`section of ${formatBytes(section.sizeBytes)}`, section.name),
      ["", `  sha256 ${section.sha256}`],
    ]),
  ];
}

/** A claim as a whole, in lines that are further in than everything that has been checked. */
function claim(what: string, text: string): string[][] {
  const lines = text
    .replace(/\n+$/, "")
    .split("\n")
    .flatMap((line) => wrap(narrow(line)));
  const [only = ""] = lines;
  if (lines.length === 1 && what.length + only.length < CLAIM_WIDTH) return [["claimed", `${what}: ${only}`]];
  return [["claimed", `${what}:`], ...lines.map((line) => ["", `  ${line}`])];
}

/** A claim in characters that are one column wide on every terminal, and look like nothing else: printable ASCII. */
function narrow(line: string): string {
  return line
    .replaceAll("\t", "\\t")
    .replaceAll(/[^\x20-\x7e]/gu, (character) => `\\u{${character.codePointAt(0)?.toString(16)}}`);
}

/** Breaks a line behind a space when there is one, and anywhere else; no character is lost. */
function wrap(line: string): string[] {
  const lines: string[] = [];
  let rest = line;
  while (rest.length > CLAIM_WIDTH) {
    const space = rest.lastIndexOf(" ", CLAIM_WIDTH - 1);
    const end = space > 0 ? space + 1 : CLAIM_WIDTH;
    lines.push(rest.slice(0, end));
    rest = rest.slice(end);
  }
  return [...lines, rest];
}
