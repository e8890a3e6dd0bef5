import { fileURLToPath } from "node:url";

/** The program that mounts the workspace in the guest, as it was built with this package: static, for x86-64 Linux. */
export const WORKSPACE_PROGRAM: string = fileURLToPath(new URL("../dist/leveret-workspace", import.meta.url));
