import type { Options } from "tsup";

/** The only place with bundler options; a package adds nothing but its entries. */
export const base: Options = {
  entry: ["src/index.ts"],
  format: ["esm"],
  target: "node20",
  platform: "node",
  clean: true,
  splitting: true,
  sourcemap: true,
  treeshake: true,
  // tsup's declaration step still sets `baseUrl`, which TypeScript 6 reports as deprecated.
  dts: { compilerOptions: { ignoreDeprecations: "6.0" } },
};
