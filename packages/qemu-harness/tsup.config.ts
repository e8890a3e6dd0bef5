import { defineConfig } from "tsup";
import { standalone } from "../../tsup.base.ts";

const entry = { index: "src/index.ts", vitest: "src/vitest/index.ts" };

export default defineConfig({
  ...standalone,
  // What reads a guest's bytes is built beside the rest for fuzz/, and no part of the interface.
  entry: { ...entry, cli: "src/cli.ts", frames: "src/agent/frames.ts" },
  dts: { ...(standalone.dts as object), entry },
});
