/** What of a project doesn't belong into version control; the lock does. */
export const STARTER_GITIGNORE = ["/.leveret/", "/images/", "/keys/", ""].join("\n");

/** A description to start from. */
export function renderStarter(id: string): string {
  return [
    'import { debian, defineOs } from "@leveret/os-builder";',
    "",
    "export default defineOs({",
    `  id: ${JSON.stringify(id)},`,
    '  version: "0.1.0",',
    '  source: debian({ suite: "trixie" }),',
    '  packages: ["iproute2", "less", "procps"],',
    '  kernel: { arguments: ["console=ttyS0", "quiet"] },',
    "});",
    "",
  ].join("\n");
}
