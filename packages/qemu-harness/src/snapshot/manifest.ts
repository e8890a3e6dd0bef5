import { createHash } from "node:crypto";
import { join } from "node:path";
import { wholeFiles } from "@leveret/block-source";
import * as z from "zod";
import { type ResolvedMachine, resolveMachine } from "../description.ts";
import { QemuError } from "../errors.ts";
import { lentSchema, partSchema } from "./part.ts";

/** Says that a directory is a snapshot, and what is in it; written last. */
export const MANIFEST = "snapshot.json";
const MAX_MANIFEST_BYTES = 64 * 1024 * 1024;
const KIND = "qemu-harness.snapshot";

const part = z.union([partSchema, lentSchema]);

const manifestSchema = z.strictObject({
  kind: z.literal(KIND),
  version: z.literal(1),
  createdAt: z.iso.datetime(),
  accelerator: z.enum(["kvm", "tcg"]),
  /** the machine, with absolute paths */
  description: z.unknown().transform((value) => resolveMachine(value as Parameters<typeof resolveMachine>[0])),
  /** everything that has to be the same where it continues */
  ingredients: z.record(z.string(), z.string()),
  /** the first number that a stream of the agent may have */
  firstStream: z.number().int().min(0).max(0xffff_ffff),
  memory: part,
  state: part,
  /** what was written to each disk, none for one that is only read */
  disks: z.array(part.nullable()),
});

/** What a snapshot says of itself. */
export type Manifest = z.output<typeof manifestSchema>;

/** A manifest, behind the digest of its text. */
export function renderManifest(manifest: Omit<Manifest, "kind" | "version">): string {
  const text = JSON.stringify({ kind: KIND, version: 1, ...manifest });
  return `${digest(text)}\n${text}\n`;
}

/**
 * Reads what a snapshot says of itself.
 *
 * @throws {QemuError} `QEMU_SNAPSHOT_NOT_FOUND`, `QEMU_SNAPSHOT_CORRUPT`, `QEMU_FILE`.
 */
export async function readManifest(path: string): Promise<Manifest> {
  const read = wholeFiles((kind, message, { cause }) => {
    if (kind === "not-found")
      return new QemuError("QEMU_SNAPSHOT_NOT_FOUND", `expected a snapshot at ${path}, got none`, { path, cause });
    return kind === "io" ? new QemuError("QEMU_FILE", message, { path, cause }) : corrupt(path, message, cause);
  });
  const text = Buffer.from(await read(join(path, MANIFEST), { maxBytes: MAX_MANIFEST_BYTES })).toString();
  const [expected, json = ""] = text.split("\n");
  if (expected !== digest(json)) throw corrupt(path, `a ${MANIFEST} that is not as it was written`);
  try {
    return manifestSchema.parse(JSON.parse(json));
  } catch (cause) {
    throw corrupt(path, `a ${MANIFEST} of another version of this package`, cause);
  }
}

/** The disks of a machine, whose paths begin at the root. */
export function absolute(machine: ResolvedMachine, resolvePath: (path: string) => string): ResolvedMachine {
  const deep = (value: unknown, key = ""): unknown => {
    if (typeof value === "string") return /^path$|Path$/.test(key) ? resolvePath(value) : value;
    if (Array.isArray(value)) return value.map((each) => deep(each));
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, deep(each, name)]));
  };
  return deep(machine) as ResolvedMachine;
}

/** The error of a snapshot that is not what was written. */
export function corrupt(path: string, got: string, cause?: unknown): QemuError {
  return new QemuError("QEMU_SNAPSHOT_CORRUPT", `expected a whole snapshot at ${path}, got ${got}`, { path, cause });
}

function digest(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
