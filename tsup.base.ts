import type { Options } from "tsup";

/** The only place with bundler options: a library (`index`) and the command line over it (`cli`, imported by `bin/`). */
export const base: Options = {
  entry: ["src/index.ts", "src/cli.ts"],
  format: ["esm"],
  target: "node20",
  platform: "node",
  clean: true,
  splitting: true,
  sourcemap: true,
  treeshake: true,
  noExternal: ["@leveret/command", "@leveret/block-source"],
  // tsup's declaration step still sets `baseUrl`, which TypeScript 6 reports as deprecated.
  dts: {
    entry: "src/index.ts",
    // Types of a package that is never published stand in the declarations of those it is bundled into.
    resolve: ["@leveret/block-source"],
    compilerOptions: { ignoreDeprecations: "6.0" },
  },
};
