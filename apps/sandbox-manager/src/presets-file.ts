import { fileURLToPath } from "node:url";

/** Lists of rules for the network, which people can read and copy. */
export const PRESETS_FILE: string = fileURLToPath(new URL("../network-presets.json", import.meta.url));
