import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import {
  type DebianTreeRequest,
  type MakeTreeOptions,
  makeDebianTree,
  openNix,
  type ProgressEvent,
  treeCommand,
} from "../../src/index.ts";
import { ARCHIVE_TOOLS, makeArchive, serve, type ToyArchive, type ToyPackage, toyBusybox } from "../helpers/archive.ts";
import { asyncRefusal } from "../helpers/refusal.ts";
import { describeWith, nixIn, nixPrograms } from "../helpers/tools.ts";

const HELLO: ToyPackage = {
  name: "toy-hello",
  fields: ["Depends: toy-data"],
  entries: [
    // Static programs are started as they are, scripts by the tree's interpreter.
    { name: "./usr/bin/busybox", mode: 0o4755, content: new Uint8Array(readFileSync("/bin/busybox")) },
    { name: "./usr/bin/sh", type: "symlink", linkname: "busybox" },
    { name: "./usr/bin/hello", mode: 0o755, content: "#!/bin/sh\necho hello $1\n" },
    { name: "./bin/old", mode: 0o755, content: "#!/usr/bin/env -S sh -e\necho old\n" },
    { name: "./usr/bin/dangling", type: "symlink", linkname: "/etc/alternatives/dangling" },
  ],
};
const DATA: ToyPackage = {
  name: "toy-data",
  entries: [{ name: "./usr/share/toy/with space", content: "data\n" }],
};
const PACKAGES = [toyBusybox(), HELLO, DATA];

let archive: ToyArchive;
let directory = "";
const request: DebianTreeRequest = { suite: "sid", packages: ["toy-hello"] };

/** Options with a fresh directory, against a mirror of the archive. */
async function options(mirror: string, program = "nix"): Promise<MakeTreeOptions> {
  const place = mkdtempSync(join(directory, "t é-"));
  const nix = await nixIn(place, program);
  return { nix, mirror: { main: mirror }, keyring: archive.keyring, directory: join(place, "out") };
}

async function mirror(answer?: Parameters<typeof serve>[1]): Promise<Awaited<ReturnType<typeof serve>>> {
  const server = await serve(archive.directory, answer);
  onTestFinished(() => server.close());
  return server;
}

describeWith("trees of a toy archive", ["nix", "/bin/busybox", ...ARCHIVE_TOOLS], () => {
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "nix-gen-tree-"));
    archive = await makeArchive(PACKAGES);
  });
  afterAll(() => {
    archive.close();
    // The store is read-only, also for its owner.
    spawnSync("chmod", ["-R", "u+w", directory]);
    rmSync(directory, { recursive: true, force: true });
  });

  describe.each(nixPrograms())("%s", (program) => {
    test("are made in one call, run, and are made only once", async () => {
      const server = await mirror();
      const events: ProgressEvent[] = [];
      const made = await options(server.url, program);
      const tree = await makeDebianTree(request, { ...made, onProgress: (event) => events.push(event) });
      expect(tree.lock.sets).toEqual({ bootstrap: ["busybox-static"], tree: ["toy-data", "toy-hello"] });
      expect(tree.lock.releases).toEqual([{ archive: "main", suite: "sid", date: "2026-02-01T00:00:00Z" }]);
      expect(readFileSync(join(tree.directory, "usr/share/toy/with space"), "utf8")).toBe("data\n");
      expect(execFileSync(join(tree.bin, "hello"), ["you"], { encoding: "utf8" })).toBe("hello you\n");
      expect(execFileSync(join(tree.bin, "old"), { encoding: "utf8" })).toBe("old\n");
      expect(existsSync(join(tree.bin, "dangling"))).toBe(false);
      const { argv } = await treeCommand(tree, "hello");
      expect(argv).toEqual([join(tree.directory, "bin/sh"), join(tree.directory, "usr/bin/hello")]);
      expect((await asyncRefusal(treeCommand(tree, "dangling"))).code).toBe("NIX_GEN_NO_PROGRAM");

      const downloads = events.filter(({ step }) => step === "downloading packages");
      const sizes = ["toy-data", "toy-hello"].map((name) => tree.lock.packages[name]?.sizeBytes ?? 0);
      expect(downloads.at(-1)).toMatchObject({ done: 2, total: 2, totalBytes: (sizes[0] ?? 0) + (sizes[1] ?? 0) });
      expect(downloads.at(-1)?.doneBytes).toBe(downloads.at(-1)?.totalBytes);
      expect(events.some(({ step }) => step === "building debian-sid-tree")).toBe(true);

      const asked = server.requests.length;
      const { mtimeNs } = statSync(tree.lockFile, { bigint: true });
      const again: ProgressEvent[] = [];
      expect(await makeDebianTree(request, { ...made, onProgress: (event) => again.push(event) })).toEqual(tree);
      expect([server.requests.length, again]).toEqual([asked, []]);
      expect(statSync(tree.lockFile, { bigint: true }).mtimeNs).toBe(mtimeNs);
    });

    test("are made from a mirror on this machine too", async () => {
      const made = await options(`file://${archive.directory}`, program);
      const tree = await makeDebianTree(request, made);
      expect(execFileSync(join(tree.bin, "hello"), ["you"], { encoding: "utf8" })).toBe("hello you\n");
    });

    test.each([
      ["is gone from", 404, "NIX_GEN_NOT_ON_MIRROR"],
      ["is refused by", 403, "NIX_GEN_MIRROR_UNREACHABLE"],
    ])("say that a locked file %s the mirror", async (_what, status, code) => {
      const server = await mirror((incoming, response) => {
        if (incoming.url?.includes("toy-hello") !== true) return false;
        response.statusCode = status;
        response.end();
        return true;
      });
      const made = await options(server.url, program);
      const error = await asyncRefusal(makeDebianTree(request, made));
      expect(error.code).toBe(code);
      expect(error.message).toContain(`HTTP error ${status}`);
      expect(error.message).toContain("toy-hello_1_all.deb");
      expect(existsSync(join(made.directory, "tree"))).toBe(false);
    });

    test.each([
      ["other bytes", (deb: Uint8Array) => deb.map((byte, index) => (index === 100 ? byte ^ 1 : byte))],
      ["a truncated file", (deb: Uint8Array) => deb.subarray(0, -1)],
    ])("say that the mirror has %s", async (_what, damage) => {
      const server = await mirror((incoming, response) => {
        if (incoming.url?.includes("toy-hello") !== true) return false;
        response.end(damage(archive.deb("toy-hello")));
        return true;
      });
      const error = await asyncRefusal(makeDebianTree(request, await options(server.url, program)));
      expect(error.code).toBe("NIX_GEN_HASH_MISMATCH");
      expect(error.message).toMatch(/specified:.*\n.*got:/);
    });

    test("lock again when the mirror has lost a file of an older lock", async () => {
      const own = await makeArchive([...PACKAGES.slice(0, 2), { ...DATA, version: "1" }]);
      onTestFinished(() => own.close());
      const server = await serve(own.directory);
      onTestFinished(() => server.close());
      const made = { ...(await options(server.url, program)), keyring: own.keyring };
      const before = await makeDebianTree(request, made);
      rmSync(join(own.directory, "pool/main/t/toy-data"), { recursive: true });
      await own.publish([...PACKAGES.slice(0, 2), { ...DATA, version: "2" }]);
      const elsewhere = await nixIn(mkdtempSync(join(directory, "other-")), program);
      const after = await makeDebianTree(request, { ...made, nix: elsewhere });
      expect(before.lock.packages["toy-data"]?.version).toBe("1");
      expect(after.lock.packages["toy-data"]?.version).toBe("2");
      expect(execFileSync(join(after.bin, "hello"), ["again"], { encoding: "utf8" })).toBe("hello again\n");
    });
  });

  test.each([
    ["a package", "toy-data", "NIX_GEN_BUILD_FAILED", "expected an intact Debian package, got /nix/store/"],
    ["the first program's package", "busybox-static", "NIX_GEN_BAD_DEB", "expected a Debian package"],
  ])("say that %s is damaged on the mirror itself", async (_what, name, code, text) => {
    const damage = (deb: Uint8Array): Uint8Array => deb.map((byte, index) => (index < 4 ? 0 : byte));
    const own = await makeArchive([toyBusybox(), DATA].map((toy) => (toy.name === name ? { ...toy, damage } : toy)));
    onTestFinished(() => own.close());
    const made = { ...(await options(`file://${own.directory}`)), keyring: own.keyring };
    const error = await asyncRefusal(makeDebianTree({ ...request, packages: ["toy-data"] }, made));
    expect([error.code, error.message]).toEqual([code, expect.stringContaining(text)]);
    expect(existsSync(join(made.directory, "tree"))).toBe(false);
  });

  test("say which Nix is missing or too old", async () => {
    const old = join(directory, "old-nix");
    writeFileSync(old, "#!/bin/sh\necho 'nix (Nix) 2.3.16'\n", { mode: 0o755 });
    const { env } = process;
    expect((await asyncRefusal(openNix({ env, program: old }))).code).toBe("NIX_GEN_NIX_TOO_OLD");
    expect((await asyncRefusal(openNix({ env, program: join(directory, "no-nix") }))).code).toBe("NIX_GEN_NO_NIX");
  });
});
