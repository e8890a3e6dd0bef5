import { defineConfig } from "tsup";
import { standalone } from "../../tsup.base.ts";

const entry = { index: "src/index.ts", vitest: "src/vitest/index.ts" };

export default defineConfig({
  ...standalone,
  entry: { ...entry, cli: "src/cli.ts" },
  dts: { ...(standalone.dts as object), entry },
});
