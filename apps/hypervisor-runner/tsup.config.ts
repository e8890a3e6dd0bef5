import { defineConfig } from "tsup";
import { standalone } from "../../tsup.base.ts";

export default defineConfig({ ...standalone, entry: ["src/index.ts"] });
