/** File of the host, among what is kept of a sandbox, with what was brought back of it. */
export const APPLIED_FILE = "applied.json";

/** Where the guest keeps what is changed in an isolated workspace: memory of its own, which its copies have too. */
export const CHANGES = "/run/leveret-changes";

/** The changes themselves, as overlayfs notes them. */
export const UPPER: string = `${CHANGES}/upper`;

/** Directories that belong to the machine, whose contents are made by tools for it and can be made again anywhere. */
const HEAVY_DIRECTORIES: readonly string[] = ["node_modules", "target", ".venv", "__pycache__"];

/**
 * The program that prints the changes as an archive.
 *
 * @param named - Paths from the workspace on; {@link HEAVY_DIRECTORIES} are left out unless they are in one.
 */
export function archiveChanges(named: readonly string[]): string[] {
  const options = [
    "--create",
    "--format=pax",
    "--xattrs",
    "--xattrs-include=trusted.overlay.opaque",
    "--ignore-failed-read",
  ];
  const wanted = new Set(named.flatMap((path) => path.split("/")));
  const excluded = HEAVY_DIRECTORIES.filter((name) => !wanted.has(name)).map((name) => `--exclude=${name}`);
  return ["tar", ...options, ...excluded, "--directory", UPPER, "."];
}
