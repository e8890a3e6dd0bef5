import { link, mkdir, symlink, writeFile } from "node:fs/promises";
import { type TreeEntry, writeErofs } from "../src/index.ts";
import { scratch } from "./support.ts";
import { imageSink } from "./trees.ts";

const OPTIONS = { uuid: "c1b9d5a2-f162-11cf-9ece-0020afc76f16", buildTime: 9n };
export const latin1 = (text: string): Buffer => Buffer.from(text, "latin1");
/** Names that `TextDecoder` makes one name of. */
export const NAMES = ["x\xfe", "x\xff", "\xff", "\xc3(", "\xed\xa0\x80", "caf\xe9", "caf\xc3\xa9", "\xef\xbf\xbd"];

/** An image of entries. */
export async function imageOf(entries: AsyncIterable<TreeEntry> | Iterable<TreeEntry>) {
  const output = imageSink();
  await writeErofs(entries, { output, ...OPTIONS });
  return output.bytes();
}

/** A directory with a file of each name, a link to one, and another name of one. */
export async function oddTree(): Promise<string> {
  const folder = await scratch();
  const inside = (name: string): Buffer => Buffer.concat([Buffer.from(`${folder}/`), latin1(name)]);
  await mkdir(inside("d\xfe"));
  for (const name of NAMES) await writeFile(inside(name), latin1(`content of ${name}`));
  await writeFile(inside("d\xfe/large\xff"), Buffer.alloc(2_000_000, 7));
  await symlink(latin1("d\xfe/large\xff"), inside("link\xff"));
  await link(inside("x\xff"), inside("y\xff"));
  return folder;
}
