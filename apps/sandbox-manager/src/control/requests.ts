import { z } from "zod";

const text = z.string().refine((value) => !value.includes("\0"), "expected text without NUL bytes");
const size = z.number().int().min(1).max(0xffff);
const terminal = z.strictObject({ rows: size, columns: size });

/** What can be asked of a supervisor. */
export const requestSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("status") }),
  z.strictObject({ kind: z.literal("stop") }),
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

/** What is said to a program that runs. */
export const controlSchema = z.union([z.strictObject({ signal: z.string() }), terminal]);

/** What a supervisor answers, and how a program ended. */
export const replySchema = z.union([
  z.object({ ok: z.literal(true) }),
  z.object({ error: z.object({ code: z.string(), message: z.string(), hint: z.string().optional() }) }),
  z.object({ exitCode: z.number().optional(), signal: z.string().optional() }),
]);
