import { execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { type DebianRequest, type ResolveOptions, renderDebianLock, resolveDebian } from "../../src/index.ts";
import { ARCHIVE_TOOLS, makeArchive, serve, type ToyArchive, type ToyPackage } from "../helpers/archive.ts";
import { processesNaming } from "../helpers/processes.ts";
import { asyncRefusal } from "../helpers/refusal.ts";
import { describeWith } from "../helpers/tools.ts";

const PACKAGES: ToyPackage[] = [
  { name: "toy-base", version: "1:2.0~rc1+b1", fields: ["Essential: yes"] },
  { name: "toy-editor", fields: ["Depends: toy-library (>= 1), toy-virtual"] },
  { name: "toy-library" },
  { name: "toy-provider", fields: ["Provides: toy-virtual"] },
  { name: "toy-broken", fields: ["Depends: toy-missing"] },
  { name: "toy-hostile", fields: ["Conflicts: toy-library"] },
];
const request = (...packages: string[]): DebianRequest => ({ suite: "sid", sets: { all: { packages } } });

let directory = "";
let archive: ToyArchive;

function options(mirror: string, more: Partial<ResolveOptions> = {}): ResolveOptions {
  const stateDirectory = mkdtempSync(join(directory, "state é-"));
  return { mirror: { main: mirror }, keyring: archive.keyring, stateDirectory, ...more };
}

async function served(answer?: Parameters<typeof serve>[1]): Promise<string> {
  const server = await serve(archive.directory, answer);
  onTestFinished(() => server.close());
  return server.url;
}

describeWith("resolving a toy archive's packages", ARCHIVE_TOOLS, () => {
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "nix-gen-resolve-"));
    archive = await makeArchive(PACKAGES);
  });
  afterAll(() => {
    archive.close();
    rmSync(directory, { recursive: true, force: true });
  });

  test("gives versions, paths and hashes, in the order of unpacking, from every kind of mirror", async () => {
    const sets = {
      editor: { packages: ["toy-editor"], provided: ["toy-virtual"] },
      base: { packages: [], essential: true },
      both: { packages: ["toy-editor"] },
    };
    const lock = await resolveDebian({ suite: "sid", sets }, options(await served()));
    expect(lock.sets).toEqual({
      editor: ["toy-library", "toy-editor"],
      base: ["toy-base"],
      both: expect.arrayContaining(["toy-provider", "toy-library"]),
    });
    // A package comes after what it depends on.
    expect([lock.sets.both?.length, lock.sets.both?.at(-1)]).toEqual([3, "toy-editor"]);
    expect(lock.packages["toy-base"]).toMatchObject({ version: "1:2.0~rc1+b1", archive: "main" });
    const file = archive.deb("toy-library");
    expect(lock.packages["toy-library"]).toEqual({
      version: "1",
      archive: "main",
      path: "pool/main/t/toy-library/toy-library_1_all.deb",
      sizeBytes: file.length,
      sha256: createHash("sha256").update(file).digest("hex"),
    });
    const local = await resolveDebian({ suite: "sid", sets }, options(`file://${archive.directory}`));
    expect(renderDebianLock(local)).toBe(renderDebianLock(lock));
  });

  test("takes what only the security archive has from there", async () => {
    const own = await makeArchive([{ name: "toy-library", version: "1+deb1" }], "toy-security");
    onTestFinished(() => own.close());
    const other = await makeArchive([{ name: "toy-library" }, { name: "toy-editor" }], "toy");
    onTestFinished(() => other.close());
    await other.publish([], "toy-updates");
    const mirror = { main: `file://${other.directory}`, security: `file://${own.directory}` };
    const keyring = join(directory, "both.gpg");
    writeFileSync(keyring, Buffer.concat([readFileSync(own.keyring), readFileSync(other.keyring)]));
    const lock = await resolveDebian(
      { suite: "toy", sets: { all: { packages: ["toy-library", "toy-editor"] } } },
      { ...options(""), mirror, keyring },
    );
    expect(lock.packages["toy-library"]).toMatchObject({ version: "1+deb1", archive: "security" });
    expect(lock.packages["toy-editor"]).toMatchObject({ archive: "main" });
    expect(lock.releases.map(({ archive: from, suite }) => `${from} ${suite}`)).toEqual([
      "main toy",
      "main toy-updates",
      "security toy-security",
    ]);
  });

  test("takes what backports have from there, and the rest from their release", async () => {
    const release = await makeArchive([{ name: "toy-library" }, { name: "toy-editor" }], "toy");
    onTestFinished(() => release.close());
    await release.publish([], "toy-updates");
    await release.publish([{ name: "toy-library", version: "2" }], "toy-backports");
    const packages = ["toy-library", "toy-editor"];
    const lock = await resolveDebian(
      { suite: "toy-backports", sets: { all: { packages } } },
      { ...options(`file://${release.directory}`), keyring: release.keyring },
    );
    expect(packages.map((name) => lock.packages[name]?.version)).toEqual(["2", "1"]);
    expect(lock.releases.map(({ suite }) => suite)).toEqual(["toy", "toy-backports", "toy-updates"]);
  });

  test("suggests the nearest names for one that does not exist", async () => {
    const error = await asyncRefusal(
      resolveDebian(request("toy-libary", "toy-base", "xyzzy"), options(await served())),
    );
    expect(error.code).toBe("NIX_GEN_UNKNOWN_PACKAGE");
    expect(error.message).toContain("toy-libary (in all): did you mean toy-library?");
    expect(error.message).toContain("xyzzy (in all)");
    expect(error.message).not.toContain("toy-base");
  });

  test.each([
    [["toy-broken"], /toy-missing/],
    [["toy-hostile", "toy-editor"], /toy-(hostile|library|editor)/],
  ])("says why %j can't be installed together", async (packages, reason) => {
    const error = await asyncRefusal(resolveDebian(request(...packages), options(await served())));
    expect(error.code).toBe("NIX_GEN_UNRESOLVABLE");
    expect(error.message).toMatch(reason);
  });

  test("refuses an index that another key has signed", async () => {
    const stranger = await makeArchive([]);
    onTestFinished(() => stranger.close());
    const error = await asyncRefusal(
      resolveDebian(request("toy-base"), options(await served(), { keyring: stranger.keyring })),
    );
    expect(error.code).toBe("NIX_GEN_BAD_SIGNATURE");
  });

  test.each([
    ["a byte of the signed text", /(Codename: )s/, "$1x"],
    ["its whole signature", /-----BEGIN PGP SIGNATURE.*/s, ""],
  ])("refuses an index in which %s is not as it was", async (_what, pattern, replacement) => {
    const release = readFileSync(join(archive.directory, "dists/sid/InRelease"), "utf8");
    const url = await served((incoming, response) => {
      if (incoming.url?.endsWith("/InRelease") !== true) return false;
      response.end(release.replace(pattern, replacement));
      return true;
    });
    expect((await asyncRefusal(resolveDebian(request("toy-base"), options(url)))).code).toBe("NIX_GEN_BAD_SIGNATURE");
  });

  test("refuses package lists that the signed file does not describe", async () => {
    const url = await served((incoming, response) => {
      if (incoming.url?.endsWith("/Packages") !== true) return false;
      const text = readFileSync(join(archive.directory, "dists/sid/main/binary-amd64/Packages"), "utf8");
      response.end(text.replace("toy-base", "toy-evil"));
      return true;
    });
    expect((await asyncRefusal(resolveDebian(request("toy-base"), options(url)))).code).toBe("NIX_GEN_BAD_INDEX");
  });

  test("says that a mirror can't be reached, and that there is no such release", async () => {
    const server = await serve(archive.directory);
    server.close();
    const unreachable = await asyncRefusal(resolveDebian(request("toy-base"), options(server.url)));
    expect(unreachable.code).toBe("NIX_GEN_MIRROR_UNREACHABLE");
    expect(unreachable.message).toContain(server.url);
    const missing = await asyncRefusal(resolveDebian({ ...request(), suite: "unstable" }, options(await served())));
    expect(missing.code).toBe("NIX_GEN_NO_RELEASE");
  });

  test("says that apt or its keys are missing", async () => {
    const empty = join(directory, "empty");
    mkdirSync(empty, { recursive: true });
    const none = await asyncRefusal(
      resolveDebian(request("toy-base"), options(await served(), { env: { PATH: empty } })),
    );
    expect(none.code).toBe("NIX_GEN_NO_APT");
    const keyless = options(await served(), { keyring: join(empty, "none.gpg") });
    expect((await asyncRefusal(resolveDebian(request("toy-base"), keyless))).code).toBe("NIX_GEN_NO_APT");
  });

  test.each(['a".gpg', "a b.gpg", "a,b.gpg", "a%62.gpg", "a[1].gpg"])("refuses a keyring named %j", async (name) => {
    const keyring = join(directory, name);
    copyFileSync(archive.keyring, keyring);
    const error = await asyncRefusal(resolveDebian(request("toy-base"), options(await served(), { keyring })));
    expect([error.code, error.path]).toEqual(["NIX_GEN_BAD_OPTIONS", "keyring"]);
  });

  test.each([
    ["state", 'q"; APT::Update::Pre-Invoke {"touch PWNED";}; X "'],
    ["state", "b\\n; // %41 'c' $(touch PWNED) \n {"],
    ["keyring", "k'`id>PWNED`$(id>PWNED);\\.gpg"],
  ])("runs nothing that the name of its %s says: %j", async (what, name) => {
    const place = mkdtempSync(join(directory, "place-"));
    const path = join(place, name.replaceAll("/", "_"));
    if (what === "keyring") copyFileSync(archive.keyring, path);
    const more = what === "keyring" ? { keyring: path } : { stateDirectory: path };
    const lock = await resolveDebian(request("toy-editor"), options(await served(), more));
    expect(lock.sets.all).toContain("toy-library");
    for (const at of [place, ...(what === "keyring" ? [] : [path]), "."]) {
      expect(readdirSync(at)).not.toContain("PWNED");
    }
  });

  test("says that another call is at work in the same directory", async () => {
    const state = options(await served());
    mkdirSync(join(state.stateDirectory, "lists"), { recursive: true });
    // Node can't take a lock of this kind.
    const script = `use Fcntl; $| = 1; open(my $file, ">", $ARGV[0]) or die;
      my $lock = pack("ssx4qqi", F_WRLCK, 0, 0, 0, 0);
      fcntl($file, F_SETLK, $lock) or die; print "held"; sleep 60`;
    const holder = spawn("perl", ["-e", script, join(state.stateDirectory, "lists/lock")]);
    onTestFinished(() => void holder.kill());
    await once(holder.stdout, "data", { signal: AbortSignal.timeout(5000) });
    expect((await asyncRefusal(resolveDebian(request("toy-base"), state))).code).toBe("NIX_GEN_BUSY");
  });

  test("stops when it is told to, leaves no process behind, and the next call succeeds", async () => {
    const controller = new AbortController();
    const url = await served((incoming) => {
      if (controller.signal.aborted || incoming.url?.endsWith("/Packages") !== true) return false;
      controller.abort(new Error("enough"));
      return true;
    });
    const state = options(url);
    await expect(resolveDebian(request("toy-base"), { ...state, signal: controller.signal })).rejects.toThrow("enough");
    await expect.poll(() => processesNaming(state.stateDirectory)).toEqual([]);
    expect((await resolveDebian(request("toy-base"), state)).sets.all).toEqual(["toy-base"]);
    expect(readdirSync(state.stateDirectory).filter((name) => name.endsWith(".new"))).toEqual([]);
  });

  test.skipIf(process.getuid?.() !== 0)("says that the disk is full (as root, who can mount a small one)", async () => {
    const small = mkdtempSync(join(directory, "small-"));
    const many = Array.from({ length: 4000 }, (_, index) => ({
      name: `toy-${index}-${"x".repeat(200)}`,
      phantom: true,
    }));
    const big = await makeArchive(many);
    onTestFinished(() => big.close());
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", small]);
    onTestFinished(() => void execFileSync("umount", [small]));
    const full = options(`file://${big.directory}`, { keyring: big.keyring, stateDirectory: small });
    expect((await asyncRefusal(resolveDebian(request("toy-0"), full))).code).toBe("NIX_GEN_DISK_FULL");
  });
});
