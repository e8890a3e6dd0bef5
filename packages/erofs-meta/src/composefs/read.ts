import { COMPOSEFS_MAX_INLINE, OVERLAY, OVERLAY_METACOPY_HEADER } from "../format/composefs.ts";
import { MODE_BITS } from "../format/inode.ts";
import { nameText } from "../internal/names.js";
import type { ErofsImage } from "../read/image.ts";
import type { Inode } from "../read/inode.ts";
import type { WalkEntry } from "../read/walk.ts";
import type { ComposefsEntry, ComposefsNode } from "./entry.ts";

const OBJECT_DIRECTORY = /^\/[0-9a-f]{2}$/;

/**
 * Reads back what a metadata-only image was made of: the other direction of {@link encodeComposefs}. What overlayfs was
 * told is taken for what it stands for, and what the writer added is left out.
 *
 * @param image - The image. Not closed.
 * @param options - `signal` to abort.
 * @returns Nodes and hard links, each directory before what is in it; {@link formatComposefsDump} makes them a dump.
 * @throws {ErofsError} What reading an image throws; `EROFS_LIMIT` for a file that holds more than 5000 bytes itself.
 * @example
 * const entries = await readComposefs(await openErofs(await fileSource("os.composefs")));
 */
export async function readComposefs(
  image: ErofsImage,
  options: { readonly signal?: AbortSignal | undefined } = {},
): Promise<ComposefsEntry[]> {
  const entries: ComposefsEntry[] = [];
  const first = new Map<bigint, string>();
  for await (const { path, inode, depth } of image.walk({ signal: options.signal })) {
    if (depth === 1 && OBJECT_DIRECTORY.test(path) && isWhiteout(inode)) continue;
    const linkTo = inode.type === "directory" ? undefined : first.get(inode.nid);
    if (linkTo !== undefined) {
      entries.push({ path, linkTo });
      continue;
    }
    first.set(inode.nid, path);
    entries.push(await nodeOf(image, path, inode));
  }
  return entries;
}

async function nodeOf(image: ErofsImage, path: WalkEntry["path"], inode: Inode): Promise<ComposefsNode> {
  const xattrs = new Map((await image.xattrs(inode)).map(({ name, value }) => [name, value]));
  const metacopy = xattrs.get(OVERLAY.metacopy);
  const redirect = xattrs.get(OVERLAY.redirect);
  const wasWhiteout = inode.type === "file" && xattrs.has(`${OVERLAY.escapedPrefix}whiteout`);
  const isInline = inode.type === "file" && inode.sizeBytes > 0n && metacopy === undefined;
  const target = inode.type === "symlink" ? await image.readLink(inode) : undefined;
  const payload = target ?? (redirect === undefined ? undefined : nameText(redirect).replace(/^\//, ""));
  const digest = metacopy?.subarray(OVERLAY_METACOPY_HEADER.length);
  return {
    path,
    mode: (MODE_BITS.get(wasWhiteout ? "char" : inode.type) ?? 0) | inode.mode,
    sizeBytes: Number(inode.sizeBytes),
    links: inode.links,
    uid: inode.uid,
    gid: inode.gid,
    device: inode.device === undefined ? 0 : encodeDevice(inode.device),
    mtime: inode.mtime,
    mtimeNsec: inode.mtimeNsec,
    ...(payload !== undefined && { payload }),
    ...(isInline && { content: await image.readFile(inode, { maxBytes: COMPOSEFS_MAX_INLINE }) }),
    ...(digest !== undefined && digest.byteLength > 0 && { digest }),
    xattrs: ownXattrs(xattrs, inode, path),
  };
}

/** The attributes that the tree itself has. */
function ownXattrs(all: ReadonlyMap<string, Uint8Array>, inode: Inode, path: string): Record<string, Uint8Array> {
  const added = new Set<string>([OVERLAY.metacopy, OVERLAY.redirect]);
  if (path === "/") added.add(OVERLAY.opaque);
  for (const prefix of [OVERLAY.escapedPrefix, OVERLAY.userPrefix]) {
    if (inode.type === "file") added.add(`${prefix}whiteout`);
    if (inode.type !== "directory" || !all.has(`${prefix}whiteouts`)) continue;
    added.add(`${prefix}whiteouts`);
    added.add(`${prefix}opaque`);
  }
  const own: Record<string, Uint8Array> = Object.create(null);
  for (const [name, value] of all) {
    if (added.has(name)) continue;
    const isEscaped = name.startsWith(OVERLAY.escapedPrefix);
    own[isEscaped ? OVERLAY.prefix + name.slice(OVERLAY.escapedPrefix.length) : name] = value;
  }
  return own;
}

function isWhiteout({ type, device }: Inode): boolean {
  return type === "char" && device?.major === 0 && device.minor === 0;
}

/** As Linux stores device numbers in 32 bits. */
function encodeDevice({ major, minor }: NonNullable<Inode["device"]>): number {
  return ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
}
