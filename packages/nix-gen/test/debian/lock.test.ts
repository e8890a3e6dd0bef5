import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import {
  type DebianLock,
  debianDownloads,
  debianPackages,
  debianPackageUrl,
  debianRequestDigest,
  lockEpochSeconds,
  NixGenError,
  parseDebianLock,
  readDebianLock,
  renderDebianLock,
  renderNix,
  writeDebianLock,
} from "../../src/index.ts";
import { refusal } from "../helpers/expect.ts";
import { asyncRefusal } from "../helpers/refusal.ts";

const locked = (path: string, archive: "main" | "security" = "main") =>
  ({ version: "1:2.0~rc1+b1", archive, path, sizeBytes: 10, sha256: "a".repeat(64) }) as const;
const LOCK: DebianLock = {
  kind: "debian-lock",
  version: 1,
  request: "0".repeat(64),
  suite: "trixie",
  architecture: "amd64",
  releases: [
    { archive: "main", suite: "trixie", date: "2026-01-02T03:04:05Z" },
    { archive: "security", suite: "trixie-security", date: "2026-02-01T00:00:00Z" },
  ],
  sets: { all: ["libstdc++6", "a.b"] },
  packages: {
    "libstdc++6": locked("pool/main/g/gcc-14/libstdc++6_14.2~0_amd64.deb"),
    "a.b": locked("pool/updates/main/a/a.b/a.b_1_all.deb", "security"),
  },
};

function scratch(): string {
  const directory = mkdtempSync(join(tmpdir(), "nix-gen-lock-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

test("is printed with sorted packages, and read back as it was", () => {
  const text = renderDebianLock(LOCK);
  expect(parseDebianLock(text)).toEqual(LOCK);
  expect(renderDebianLock(parseDebianLock(text))).toBe(text);
  expect(Object.keys(JSON.parse(text).packages)).toEqual(["a.b", "libstdc++6"]);
});

test("refuses every truncation, and every changed byte gives a lock or the package's error", () => {
  const text = renderDebianLock(LOCK);
  for (let length = 0; length < text.length - 1; length++) {
    refusal(() => parseDebianLock(text.slice(0, length)), "NIX_GEN_BAD_LOCK");
  }
  for (let index = 0; index < text.length; index++) {
    const changed = text.slice(0, index) + String.fromCharCode(text.charCodeAt(index) ^ 1) + text.slice(index + 1);
    try {
      parseDebianLock(changed);
    } catch (error) {
      expect(error).toBeInstanceOf(NixGenError);
    }
  }
});

test.each([
  ["a path out of the pool", { path: "pool/../../etc/passwd.deb" }],
  ["an absolute path", { path: "/pool/main/a.deb" }],
  ["a URL", { path: "http://example.org/pool/a.deb" }],
  ["a hash of another kind", { sha256: "b".repeat(40) }],
  ["no bytes", { sizeBytes: 0 }],
  ["a version with a slash", { version: "1/2" }],
  ["an unknown key", { url: "x" }],
])("refuses a package with %s", (_what, wrong) => {
  const text = JSON.stringify({
    ...LOCK,
    packages: { ...LOCK.packages, "a.b": { ...LOCK.packages["a.b"], ...wrong } },
  });
  refusal(() => parseDebianLock(text), "NIX_GEN_BAD_LOCK");
});

test.each([
  ["an unlocked package in a set", JSON.stringify({ ...LOCK, sets: { all: ["none"] } })],
  ["__proto__ as a set", renderDebianLock(LOCK).replace('"sets": {', '"sets": {"__proto__": [],')],
  ["__proto__ as a package", renderDebianLock(LOCK).replace('"packages": {', '"packages": {"__proto__": {},')],
  ["a name that is none", renderDebianLock(LOCK).replaceAll('"a.b"', '"A B"')],
  ["another version", JSON.stringify({ ...LOCK, version: 2 })],
])("refuses %s", (_what, text) => {
  refusal(() => parseDebianLock(text), "NIX_GEN_BAD_LOCK");
});

test("is written whole, and an older one stays when that fails", async () => {
  const directory = scratch();
  const file = join(directory, "deep/er/lock.json");
  await writeDebianLock(file, LOCK);
  expect(await readDebianLock(file)).toEqual(LOCK);
  expect(readdirSync(join(file, ".."))).toEqual(["lock.json"]);
  writeFileSync(join(directory, "file"), "as it was");
  expect((await asyncRefusal(writeDebianLock(join(directory, "file/lock.json"), LOCK))).code).toBe("NIX_GEN_IO");
  expect(readFileSync(join(directory, "file"), "utf8")).toBe("as it was");
  expect((await asyncRefusal(readDebianLock(join(directory, "none")))).code).toBe("NIX_GEN_NO_LOCK");
  expect((await asyncRefusal(readDebianLock(directory))).code).toBe("NIX_GEN_IO");
});

test("stands for the newest of its releases", () => {
  expect(lockEpochSeconds(LOCK)).toBe(Date.UTC(2026, 1, 1) / 1000);
});

test("names files on whichever mirror", () => {
  const mirror = { main: "http://m/debian", security: "http://s" };
  expect(debianPackageUrl(locked("pool/main/g/gcc-14/libstdc++6_14.2~0_amd64.deb"), mirror)).toBe(
    "http://m/debian/pool/main/g/gcc-14/libstdc%2B%2B6_14.2~0_amd64.deb",
  );
  expect(debianPackageUrl(locked("pool/a.deb", "security"), mirror)).toBe("http://s/pool/a.deb");
  refusal(() => debianPackageUrl(locked("pool/a.deb", "security"), { main: "http://m" }), "NIX_GEN_NO_MIRROR");
});

test("becomes one attribute set that builds refer to", () => {
  const packages = debianPackages(LOCK, { main: "http://m", security: "http://s" }, { binding: "debs" });
  expect(packages.set("all").map((expr) => renderNix(expr))).toEqual(['debs."libstdc++6"\n', 'debs."a.b"\n']);
  refusal(() => packages.set("none"), "NIX_GEN_BAD_LOCK");
  refusal(() => packages.set("constructor"), "NIX_GEN_BAD_LOCK");
  refusal(() => packages.get("toString"), "NIX_GEN_BAD_LOCK");
  expect(debianDownloads(LOCK).map(({ storePath, sizeBytes }) => [storePath.slice(44), sizeBytes])).toEqual([
    ["libstdc++6_1-2.0-rc1+b1.deb", 10],
    ["a.b_1-2.0-rc1+b1.deb", 10],
  ]);
  refusal(() => debianDownloads(LOCK, ["none"]), "NIX_GEN_BAD_LOCK");
});

test("a request's digest is the same whatever the order of names, and another for every other change", () => {
  const digest = (packages: string[], more = {}): string =>
    debianRequestDigest({ suite: "trixie", sets: { all: { packages, ...more } } });
  expect(digest(["a0", "b0"])).toBe(digest(["b0", "a0"]));
  const others = [
    digest(["a0"]),
    digest(["a0", "b0"]),
    digest(["a0"], { essential: true }),
    digest(["a0"], { provided: ["x0"] }),
  ];
  expect(new Set(others).size).toBe(4);
  refusal(
    () => debianRequestDigest({ suite: "trixie", sets: { all: { packages: ["A"] } } }),
    "NIX_GEN_BAD_OPTIONS",
    "sets.all.packages.0",
  );
});
