import { cpSync } from "node:fs";
import { defineConfig } from "tsup";
import { copyLicenses, standalone } from "../../tsup.base.ts";

/** What sandboxes run is an example like any other; the package has its own copy. */
const GUEST = "../../examples/sandbox-guest";

export default defineConfig({
  ...standalone,
  entry: {
    index: "src/index.ts",
    cli: "src/cli.ts",
    supervisor: "src/supervisor/main.ts",
    decoders: "src/network/decoders.ts",
  },
  async onSuccess() {
    await copyLicenses();
    for (const file of ["os.config.ts", "os.lock.json"]) cpSync(`${GUEST}/${file}`, `dist/image/${file}`);
  },
});
