/** File of the host, among what is kept of a sandbox, with what was brought back of it. */
export const APPLIED_FILE = "applied.json";

/** Where the guest keeps what is changed in an isolated workspace: memory of its own, which its copies have too. */
export const CHANGES = "/run/leveret-changes";

/** The changes themselves, as overlayfs notes them. */
export const UPPER: string = `${CHANGES}/upper`;

/** Directories that belong to the machine, whose contents are made by tools for it and can be made again anywhere. */
const HEAVY_DIRECTORIES: readonly string[] = ["node_modules", "target", ".venv", "__pycache__"];

/**
 * The program that prints the changes as an archive. Directories that the named paths are in are part of it, because they
 * may hide what the project has; of a heavy one there is nothing but itself.
 *
 * @param named - Paths from the workspace on; all of it when there are none.
 */
export function archiveChanges(named: readonly string[]): string[] {
  const heavy = HEAVY_DIRECTORIES.filter((name) => isHeavy(name, named)).map((name) => `-name ${name}`);
  const script = `
cd ${UPPER} || exit
list=${CHANGES}/list.$$
while [ "$1" != -- ]; do
  if [ -e "$1" ] || [ -L "$1" ]; then printf '%s\\0' "$1"; fi
  shift
done > "$list"
shift
# What nobody has changed is not there.
for path do
  shift
  if [ -e "$path" ] || [ -L "$path" ]; then set -- "$@" "$path"; fi
done
status=0
if [ $# -gt 0 ]; then
  find "$@" -ignore_readdir_race -type d \\( ${heavy.join(" -o ") || "-false"} \\) -print0 -prune -o -print0 >> "$list" || status=3
fi
tar --create --format=pax --xattrs --xattrs-include=trusted.overlay.opaque --ignore-failed-read --no-recursion \\
  --null --files-from="$list" || [ $? = 1 ] || status=4
rm -f "$list"
exit $status`;
  const above = named.flatMap((path) => path.split("/").map((_, depth, names) => names.slice(0, depth).join("/")));
  const [ancestors, wanted] = [[...new Set(above)], named.length > 0 ? named : [""]].map((paths) =>
    paths.map((path) => `./${path}`),
  );
  return ["/bin/sh", "-c", script, "sh", ...(ancestors ?? []), "--", ...(wanted ?? [])];
}

/** Whether a directory of a name is left where it is: heavy, and nobody has named it or anything in it. */
export function isHeavy(name: string, named: readonly string[]): boolean {
  return HEAVY_DIRECTORIES.includes(name) && !named.some((path) => path.split("/").includes(name));
}
