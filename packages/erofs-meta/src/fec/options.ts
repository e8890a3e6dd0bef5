import { z } from "zod";
import type { ByteSink } from "../block-source.ts";
import { FEC_ROOTS } from "../format/fec.ts";
import { DEFAULT_MAX_DAMAGE, type VerityProgress } from "../options.ts";

const sink = z.custom<ByteSink>((value) => typeof (value as ByteSink | null)?.write === "function", "expected a sink");
const roots = z.int().min(FEC_ROOTS.min).max(FEC_ROOTS.max).default(FEC_ROOTS.default);
const control = {
  signal: z.instanceof(AbortSignal).optional(),
  onProgress: z.custom<(event: VerityProgress) => void>((value) => typeof value === "function").optional(),
};

export const buildFecOptions = z.strictObject({ output: z.union([z.string().min(1), sink]), roots, ...control });

export const repairVerityOptions = z.strictObject({
  rootHash: z.instanceof(Uint8Array),
  roots,
  dataOutput: sink,
  treeOutput: sink,
  maxDamage: z.int().positive().default(DEFAULT_MAX_DAMAGE),
  workers: z.int().min(0).max(256).optional(),
  ...control,
});
