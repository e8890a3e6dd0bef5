import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { buildFlake, type Nix } from "../../src/index.ts";
import { asyncRefusal } from "../helpers/refusal.ts";

function directory(): string {
  const path = mkdtempSync(join(tmpdir(), "nix-gen-build-"));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

const nix = (program: string): Nix => ({
  program,
  version: "2.8.0",
  store: "local?root=/a",
  env: { PATH: "/usr/bin:/bin" },
  realPath: (path) => path,
});

test("says that the program is gone, or can't be started, since it was found", async () => {
  const at = directory();
  for (const [program, why] of [
    [join(at, "nix"), "found none"],
    [at, "got EACCES"],
  ] as const) {
    const error = await asyncRefusal(buildFlake(nix(program), { directory: at, attribute: "it" }));
    expect([error.code, error.message]).toEqual(["NIX_GEN_NO_NIX", `expected the program ${program}, ${why}`]);
    expect(error.hint).toContain("LEVERET_NIX");
  }
});

test("says that the flake's directory is not there", async () => {
  const at = join(directory(), "none");
  const error = await asyncRefusal(buildFlake(nix("/bin/true"), { directory: at, attribute: "it" }));
  expect([error.code, error.path]).toEqual(["NIX_GEN_IO", at]);
});

test.each(["/a b", "/a\tb", "/a=/etc", "/a?"])("refuses %j as a readable path", async (path) => {
  const options = { directory: directory(), attribute: "it", readablePaths: ["/srv", path] };
  const error = await asyncRefusal(buildFlake(nix("/bin/true"), options));
  expect([error.code, error.path]).toEqual(["NIX_GEN_BAD_OPTIONS", "readablePaths[1]"]);
});
