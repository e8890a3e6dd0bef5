import * as z from "zod";
import { networkQuestionSchema } from "../network/messages.ts";

const text = z.string().refine((value) => !value.includes("\0"), "expected text without NUL bytes");
const size = z.number().int().min(1).max(0xffff);
/** name of a directory */
const checkpoint = z.string().regex(/^[a-z0-9-]{1,40}$/);
const terminal = z.strictObject({ rows: size, columns: size });

/** What can be asked of a supervisor. */
const requestSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("status") }),
  z.strictObject({ kind: z.literal("stop") }),
  z.strictObject({ kind: z.literal("ports") }),
  z.strictObject({ kind: z.literal("checkpoint") }),
  /** a checkpoint that is there for as long as the connection is */
  z.strictObject({ kind: z.literal("capture") }),
  z.strictObject({ kind: z.literal("network"), question: networkQuestionSchema }),
  z.strictObject({ kind: z.literal("rewind"), id: checkpoint }),
  z.strictObject({ kind: z.literal("forget"), id: checkpoint }),
  z.strictObject({
    kind: z.literal("exec"),
    argv: z.array(text).min(1),
    cwd: text,
    env: z.record(text, text),
    /** a terminal instead of pipes */
    terminal: terminal.optional(),
  }),
]);

export type Request = z.output<typeof requestSchema>;

/** The first frame of a connection. */
export const messageSchema = z.strictObject({
  /** id of the sandbox that is meant: another one may have its name by now */
  to: z.string(),
  request: requestSchema,
});

export type Message = z.output<typeof messageSchema>;

/** What is said to a program that runs. */
export const controlSchema = z.union([z.strictObject({ signal: z.string() }), terminal]);

/** What a supervisor answers when it does what it is asked for. */
export type Reply = Exclude<z.output<typeof replySchema>, { error: unknown }>;

/** What a supervisor answers, and how a program ended. */
export const replySchema = z.union([
  z.object({
    ok: z.literal(true),
    ports: z.array(z.number()).optional(),
    checkpoint: z.string().optional(),
    network: z.unknown().optional(),
  }),
  z.object({ error: z.object({ code: z.string(), message: z.string(), hint: z.string().optional() }) }),
  z.object({ exitCode: z.number().optional(), signal: z.string().optional() }),
]);
