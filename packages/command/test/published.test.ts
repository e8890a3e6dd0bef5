import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

const root = fileURLToPath(new URL("../../../", import.meta.url));
const licence = readFileSync(join(root, "LICENSE"), "utf8");
const published = ["packages", "apps"]
  .flatMap((folder) => readdirSync(join(root, folder)).map((name) => join(folder, name)))
  .filter((folder) => existsSync(join(root, folder, "package.json")))
  .map((folder) => ({ folder, manifest: JSON.parse(readFileSync(join(root, folder, "package.json"), "utf8")) }))
  .filter(({ manifest }) => manifest.private !== true);

describe("what goes into the tarball of a package", () => {
  test.each(published)("has the licence: $folder", ({ folder, manifest }) => {
    expect(manifest.license).toBe("Apache-2.0");
    expect(readFileSync(join(root, folder, "LICENSE"), "utf8")).toBe(licence);
  });

  test.each(published)("has everything that its README links to: $folder", ({ folder, manifest }) => {
    const readme = readFileSync(join(root, folder, "README.md"), "utf8");
    const links = [...readme.matchAll(/\]\((?![a-z]+:|#)([^)#\s]+)/g)].map(([, target = ""]) => target);
    const isInside = (target: string): boolean =>
      manifest.files.includes(target.split("/")[0]) && existsSync(join(root, folder, target));
    expect(links.filter((target) => !isInside(target))).toEqual([]);
  });
});
