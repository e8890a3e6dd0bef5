import { fileURLToPath } from "node:url";

/** Directory of the scripts that run inside of Nix's sandbox; it lies beside both `src` and `dist`. */
export const BUILDERS_DIRECTORY = fileURLToPath(new URL("../builders", import.meta.url));
