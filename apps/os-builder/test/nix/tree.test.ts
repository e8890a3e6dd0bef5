import { link, mkdir, readdir, readlink, rm, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { copyTree } from "../../src/nix/tree.ts";
import { rejectionOf, scratch } from "../support/io.ts";
import { projectIn, TINY } from "../support/system.ts";

async function projectWithTree() {
  const directory = await scratch();
  for (const name of ["tree/etc", "keys", ".leveret"]) await mkdir(join(directory, name), { recursive: true });
  await writeFile(join(directory, "keys", "db.key"), "secret");
  await writeFile(join(directory, "tree", "etc", "motd"), "hello");
  const destination = join(directory, ".leveret", "copy");
  return { directory, copy: () => copyTree(projectIn(directory, { ...TINY, tree: "tree" }), destination), destination };
}

describe("copyTree", () => {
  test("copies files and links as they are", async () => {
    const { directory, copy, destination } = await projectWithTree();
    await symlink("../nowhere", join(directory, "tree", "etc", "link"));
    await copy();
    expect((await readdir(join(destination, "etc"))).sort()).toEqual(["link", "motd"]);
    expect(await readlink(join(destination, "etc", "link"))).toBe("../nowhere");
  });

  test.each<[string, (directory: string) => Promise<unknown>, RegExp]>([
    ["no tree", (directory) => rm(join(directory, "tree"), { recursive: true }), /expected a directory, found none/],
    [
      "keys that are a link into the tree",
      async (directory) => {
        await rm(join(directory, "keys"), { recursive: true });
        await mkdir(join(directory, "tree", "keys"));
        await symlink("tree/keys", join(directory, "keys"));
      },
      /to lie apart/,
    ],
    [
      "a tree that is a link to the keys",
      async (directory) => {
        await rm(join(directory, "tree"), { recursive: true });
        await symlink("keys", join(directory, "tree"));
      },
      /to lie apart/,
    ],
    [
      "a tree that is a link to the builder's directory",
      async (directory) => {
        await rm(join(directory, "tree"), { recursive: true });
        await symlink(".leveret", join(directory, "tree"));
      },
      /to lie apart/,
    ],
    [
      "a key by a second name",
      (directory) => link(join(directory, "keys", "db.key"), join(directory, "tree", "etc", "key")),
      /expected no key among the files, found .*etc\/key/,
    ],
    [
      "a socket",
      async (directory) => {
        const server = createServer();
        await new Promise<void>((resolve) => server.listen(join(directory, "tree", "socket"), resolve));
        onTestFinished(() => void server.close());
      },
      /found something else at .*tree\/socket/,
    ],
  ])("refuses %s", async (_, change, message) => {
    const { directory, copy } = await projectWithTree();
    await change(directory);
    const error = await rejectionOf(copy());
    expect(error).toMatchObject({ code: "OS_BAD_CONFIG", issues: [{ path: "tree" }] });
    expect(error.message).toMatch(message);
  });
});
