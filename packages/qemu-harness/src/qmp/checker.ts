// Loaded when it is needed: most connections never check or explain anything.
import type { QemuErrorDetails } from "../errors.ts";
import { checkArguments, checkEvent, checkReturn, versionOf } from "./check.ts";
import { decodeIntrospection } from "./introspection.ts";
import { type QmpIssue, renderIssues } from "./json.ts";
import { knownSchema } from "./schema.ts";

/** Says what is wrong with what goes over one connection. */
export interface QmpChecker {
  readonly checkArguments: (command: string, args: object) => QmpIssue[];
  readonly checkReturn: (command: string, value: unknown) => QmpIssue[];
  readonly checkEvent: (event: string, data: object) => QmpIssue[];
}

/** A command that QEMU refused. */
export interface Refusal {
  /** QEMU's version, such as `7.2` */
  readonly version: string;
  readonly command: string;
  readonly args: object;
  /** QEMU's class of the error */
  readonly qmpClass: string;
}

/**
 * A checker for one QEMU.
 *
 * @param entities - What its `query-qmp-schema` returned.
 * @param name - Its version, such as `7.2`.
 * @throws {QemuError} `QEMU_QMP_PROTOCOL` when `entities` are no schema.
 */
export async function openChecker(entities: unknown, name: string): Promise<QmpChecker> {
  const version = { schema: await decodeIntrospection(entities, name), bit: 1, name };
  return {
    checkArguments: (command, args) => checkArguments(version, command, args),
    checkReturn: (command, value) => checkReturn(version, command, value),
    checkEvent: (event, data) => checkEvent(version, event, data),
  };
}

/** What the schema of QEMU's version has to say about a command that QEMU refused; nothing for an unknown version. */
export async function explainRefusal({ version: name, command, args, qmpClass }: Refusal): Promise<QemuErrorDetails> {
  const version = versionOf(await knownSchema(), name);
  if (version === undefined) return {};
  const issues = checkArguments(version, command, args);
  if (issues.length > 0) return { issues, hint: renderIssues(issues).trim() };
  return qmpClass === "CommandNotFound" ? { hint: `other builds of QEMU ${name} have it` } : {};
}
