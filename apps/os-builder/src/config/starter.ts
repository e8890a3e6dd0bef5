import { IMAGES_DIRECTORY, STATE_DIRECTORY } from "../places.ts";
import { debian } from "./define.ts";

/** What of a project doesn't belong into version control; the lock does. Keys have a `.gitignore` of their own. */
export const STARTER_GITIGNORE = `/${STATE_DIRECTORY}/\n/${IMAGES_DIRECTORY}/\n`;

/** What a new description says besides its id. */
export const STARTER = { version: "0.1.0", source: debian({ suite: "trixie" }) } as const;

/** The text of a description to start from. */
export function renderStarter(id: string): string {
  return [
    'import { debian, defineOs } from "@leveret/os-builder";',
    "",
    "export default defineOs({",
    `  id: ${JSON.stringify(id)},`,
    `  version: ${JSON.stringify(STARTER.version)},`,
    `  source: debian({ suite: ${JSON.stringify(STARTER.source.suite)} }),`,
    '  packages: ["iproute2", "less", "procps"],',
    '  kernel: { arguments: ["console=ttyS0", "quiet"] },',
    "});",
    "",
  ].join("\n");
}
