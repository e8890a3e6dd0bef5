import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { nearestNames } from "../../src/debian/suggest.ts";
import { findDebianMirror, mirrorDirectories } from "../../src/index.ts";
import { refusal } from "../helpers/expect.ts";
import { asyncRefusal } from "../helpers/refusal.ts";

/** A directory like /etc/apt with these files. */
function apt(files: Record<string, string>): string {
  const directory = mkdtempSync(join(tmpdir(), "nix-gen-apt-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  mkdirSync(join(directory, "sources.list.d"));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(directory, name), text);
  return directory;
}

const LIST = `# deb http://commented/debian trixie main
deb [arch=amd64 signed-by=/x.gpg] http://third.example/party stable-party main
deb-src http://sources.example/debian trixie main
deb http://list.example/debian/ trixie main contrib # the archive
deb http://security.example/debian-security trixie-security main`;
const SOURCES = `Types: deb
# a comment
URIs: http://deb822.example/debian
Suites: trixie
 trixie-updates
Components: main
Signed-By:
 -----BEGIN

Types: deb
URIs: http://off.example/debian
Suites: trixie-security
Components: main
Enabled: no`;

test("is the option, then the environment, then the first archive of apt's sources", async () => {
  const aptDirectory = apt({ "sources.list": LIST });
  const env = {
    LEVERET_DEBIAN_MIRROR: "http://env.example/d/",
    LEVERET_DEBIAN_SECURITY_MIRROR: "http://env.example/s",
  };
  expect(await findDebianMirror({ mirror: "http://o.example//", env, aptDirectory })).toEqual({
    main: "http://o.example",
  });
  expect(await findDebianMirror({ env, aptDirectory })).toEqual({
    main: "http://env.example/d",
    security: "http://env.example/s",
  });
  expect(await findDebianMirror({ aptDirectory })).toEqual({
    main: "http://list.example/debian",
    security: "http://security.example/debian-security",
  });
});

test("is found in both forms of apt's sources", async () => {
  const aptDirectory = apt({ "sources.list.d/debian.sources": SOURCES, "sources.list.d/x.list.save": LIST });
  expect(await findDebianMirror({ aptDirectory })).toEqual({ main: "http://deb822.example/debian" });
});

test("is an error that names the three places when there is none", async () => {
  const error = await asyncRefusal(findDebianMirror({ aptDirectory: apt({ "sources.list": "" }) }));
  expect(error.code).toBe("NIX_GEN_NO_MIRROR");
  expect(error.message).toMatch(/the option, in LEVERET_DEBIAN_MIRROR or in .*nix-gen-apt/);
});

test.each([
  "ftp.example",
  "ftp://x/debian",
  "http://",
  "http://a b/",
  "http://user:secret@x/debian",
  "http://x/%7Euser",
  "file:///srv/a b",
  "file:///srv/a%20b",
  "file:///srv/a=b",
  "file:///srv/a?",
  "file:///srv/a?b",
  "file:///srv/a#b",
  "file:///srv/a%2Fb",
  "file://srv/debian",
])("is not %j", async (mirror) => {
  const error = await asyncRefusal(findDebianMirror({ mirror }));
  expect(error.code).toBe("NIX_GEN_BAD_MIRROR");
  expect(error.message).not.toContain("secret");
  if (!mirror.includes("secret")) expect(error.hint).toBeDefined();
});

test("names its directories when it is on this machine", () => {
  const main = "file:///srv/d%C3%A9/";
  expect(mirrorDirectories({ main: "file:///srv/dé/", security: "http://x" })).toEqual(["/srv/dé"]);
  refusal(() => mirrorDirectories({ main }), "NIX_GEN_BAD_MIRROR");
});

test.each([
  ["sytemd", ["systemd"]],
  ["pyhton3", ["python3"]],
  ["xyzzy", []],
  ["zst", ["zstd"]],
])("the names nearest to %s are %j", (name, near) => {
  expect(nearestNames(name, ["systemd", "python3", "zstd", "coreutils"])).toEqual(near);
});
