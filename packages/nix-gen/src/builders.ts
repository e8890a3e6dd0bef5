import { fileURLToPath } from "node:url";

/** Directory of the scripts that run inside of Nix's sandbox; it lies beside both `src` and `dist`. */
export const BUILDERS_DIRECTORY = fileURLToPath(new URL("../builders", import.meta.url));

/** The scripts in it, which every flake with such builds carries. */
export const BUILDER_SCRIPTS = ["enter.sh", "system.sh", "tree.sh"] as const;
