import { readFile, writeFile } from "node:fs/promises";
import { expect } from "vitest";
import { type BuildVerityOptions, buildVerityFec, buildVerityTree, fileSource, openErofs } from "../src/index.ts";
import { hex, noise } from "./support.ts";

/** Trees of one image, each of which the kernel mounts it through. */
const TREES: readonly (readonly [string, Partial<BuildVerityOptions>])[] = [
  ["sha256 as by default", {}],
  [
    "sha512 in blocks of 1024 and 512 bytes, a long salt",
    { algorithm: "sha512", dataBlockSize: 1024, hashBlockSize: 512, salt: noise(256) },
  ],
  ["sha1 without salt", { algorithm: "sha1", salt: new Uint8Array(0) }],
];
const UUID = "00112233-4455-6677-8899-aabbccddeeff";

/** What the guest does with trees, and what is to be seen of it. */
export interface VerityGuest {
  readonly script: string;
  /** checks the lines of every section that it printed */
  check(section: (name: string) => string[]): void;
}

/**
 * Makes trees and parity of an image, and a copy of it with damage.
 *
 * @param image - Path of an EROFS image.
 * @param device - The same in the guest.
 * @param file - Path of a file inside of it, whose content has a block of its own.
 * @param digest - Its SHA-256 in hexadecimal digits.
 * @param add - Adds a disk, and says where to write it and what it is called in the guest.
 */
export async function verityGuest(
  image: string,
  device: string,
  { file, digest }: { readonly file: string; readonly digest: string },
  add: (name: string) => { readonly path: string; readonly device: string },
): Promise<VerityGuest> {
  const source = await fileSource(image);
  const trees: { device: string; path: string; root: string }[] = [];
  for (const [index, [, options]] of TREES.entries()) {
    const disk = add(`tree${index}`);
    const settings = { output: disk.path, uuid: UUID, salt: Uint8Array.of(1, 2, 3), ...options };
    trees.push({ ...disk, root: hex((await buildVerityTree(source, settings)).rootHash) });
  }
  const [plain] = trees;
  if (plain === undefined) throw new Error("no tree");
  const parity = add("parity");
  const tree = await fileSource(plain.path);
  await buildVerityFec(source, tree, { output: parity.path });

  const damaged = add("damaged");
  const bytes = await readFile(image);
  const opened = await openErofs(source);
  for await (const { position } of opened.extents(await opened.lookup(file))) {
    if (position === undefined) continue;
    bytes.fill(0x55, position + 10, position + 90);
    break;
  }
  await writeFile(damaged.path, bytes);
  await tree.close();
  await source.close();

  const look = (name: string, open: string): string => `
echo "#verity ${name}"
if ${open}; then
  mount -t erofs -o ro /dev/mapper/checked /mnt && echo "@mounted"
  cat /mnt${file} > /tmp/content 2> /dev/null && echo "@read $(sha256sum < /tmp/content)" || echo "@unreadable"
  umount /mnt
  veritysetup close checked
else
  echo "@refused"
fi`;
  const wrong = plain.root.replace(/^../, (digits) => (digits === "00" ? "01" : "00"));
  const script = [
    "export DM_DISABLE_UDEV=1",
    ...trees.map(({ device: hash, root }, index) =>
      look(`${index}`, `veritysetup open ${device} checked ${hash} ${root}`),
    ),
    look("wrong", `veritysetup open ${device} checked ${plain.device} ${wrong} 2> /dev/null`),
    look("damaged", `veritysetup open ${damaged.device} checked ${plain.device} ${plain.root}`),
    look(
      "repaired",
      `veritysetup open --fec-device=${parity.device} ${damaged.device} checked ${plain.device} ${plain.root}`,
    ),
  ].join("\n");
  return {
    script,
    check(section) {
      const read = [`@mounted`, `@read ${digest}  -`];
      for (const [index, [title]] of TREES.entries()) expect(section(`verity ${index}`), title).toEqual(read);
      // The kernel sees a wrong root hash when it reads the first block, if veritysetup has not seen it before.
      expect(section("verity wrong")).not.toContain("@mounted");
      expect(section("verity damaged")).toEqual(["@mounted", "@unreadable"]);
      expect(section("verity repaired")).toEqual(read);
    },
  };
}
