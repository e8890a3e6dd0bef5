import { defineConfig } from "tsup";
import { base } from "../../tsup.base.ts";

// A worker is a file of its own beside the others, where `new URL("./hash-worker.js", import.meta.url)` finds it.
export default defineConfig({
  ...base,
  entry: {
    index: "src/index.ts",
    cli: "src/cli.ts",
    "hash-worker": "src/verity/hash-worker.js",
    "compress-worker": "src/write/compress-worker.js",
    "scan-worker": "src/write/scan-worker.js",
  },
});
