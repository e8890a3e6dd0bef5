import { fileURLToPath } from "node:url";

/** Native code as a checkout builds it. Here, because from here and from the bundle it is the same way. */
export const NATIVE_FILE = fileURLToPath(new URL("../dist/vmm-native.node", import.meta.url));
