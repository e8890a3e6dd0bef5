import * as z from "zod";
import { imageSchema } from "../image.ts";
import { networkRulesSchema, secretGrantSchema } from "../network/messages.ts";
import { identitySchema, stateSchema } from "../state.ts";

/** What a supervisor is told on its standard input. */
export const supervisorSchema = z.strictObject({
  sandbox: identitySchema,
  /** where its state goes */
  stateDirectory: z.string(),
  /** where it listens */
  socketPath: z.string(),
  origin: z.discriminatedUnion("kind", [
    z.strictObject({
      kind: z.literal("template"),
      image: imageSchema,
      /** directory of the templates that machines are forks of */
      templates: z.string(),
      network: networkRulesSchema,
      secrets: z.array(secretGrantSchema).default([]),
    }),
    z.strictObject({
      kind: z.literal("checkpoint"),
      /** its directory, which may go when the sandbox runs */
      path: z.string(),
    }),
  ]),
});

export type SupervisorConfig = z.output<typeof supervisorSchema>;

/** What it says while it starts, a line of JSON each; the last one is `ready` or `error`. */
export const progressSchema = z.union([
  z.strictObject({ step: z.string() }),
  z.strictObject({ ready: stateSchema }),
  z.strictObject({ error: z.object({ code: z.string(), message: z.string(), hint: z.string().optional() }) }),
]);

export type SupervisorProgress = z.output<typeof progressSchema>;

/** Descriptors that a supervisor inherits besides the usual three. */
export const SUPERVISOR_FD = { lease: 3, progress: 4 } as const;
