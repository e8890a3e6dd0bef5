import { copyFileSync, mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
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

/** What {@link standalone} puts into a package's own files. */
const INSIDE = ["zod", "commander"];

/**
 * The same with its dependencies inside: a command line of it spends half the time and three quarters of the memory on its
 * start, beyond what Node itself does, because there are few files to find and read, and what of zod nobody uses is not
 * there. For that zod has to be imported as `import * as z from "zod"`.
 */
export const standalone: Options = {
  ...base,
  noExternal: [...(base.noExternal ?? []), ...INSIDE],
  removeNodeProtocol: false,
  esbuildPlugins: [
    {
      // CommonJS asks for Node's own modules with `require`, which there is none of in a module.
      name: "node-modules-of-commonjs",
      setup({ onResolve, onLoad }) {
        onResolve({ filter: /^node:/ }, ({ kind, path }) =>
          kind === "require-call" ? { path, namespace: "imported" } : undefined,
        );
        onLoad({ filter: /.*/, namespace: "imported" }, ({ path }) => ({ contents: `export * from "${path}";` }));
      },
    },
  ],
  onSuccess: copyLicenses,
};

/** Puts the licenses of what is inside of a package into it. */
export async function copyLicenses(): Promise<void> {
  const { resolve } = createRequire(join(process.cwd(), "package.json"));
  for (const name of INSIDE) {
    const target = join("dist", "licenses", `${name}.txt`);
    mkdirSync(dirname(target), { recursive: true });
    copyFileSync(join(dirname(resolve(name)), "LICENSE"), target);
  }
}
