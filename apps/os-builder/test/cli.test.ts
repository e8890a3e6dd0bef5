import { chmod, mkdir, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { debianRequestDigest, writeDebianLock } from "@leveret/nix-gen";
import { beforeAll, describe, expect, test } from "vitest";
import { loadProject } from "../src/config/load.ts";
import { supportedNode } from "../src/doctor.ts";
import { debianRequest } from "../src/plan.ts";
import { leveretOs, scratch } from "./support/io.ts";
import { copyKeys, KEYS_TIMEOUT_MS, makeKeys, type TestKeys } from "./support/keys.ts";
import { exampleLock } from "./support/system.ts";

let keys: TestKeys;
beforeAll(async () => {
  keys = await makeKeys("cli");
}, KEYS_TIMEOUT_MS);

/** A directory after `leveret-os init`, with keys that were made before. */
async function initialised(): Promise<string> {
  const directory = await scratch();
  await copyKeys(keys, join(directory, "keys"));
  expect((await leveretOs(directory, ["init"])).stdout).toBe("made os.config.ts\nmade .gitignore\n");
  return directory;
}

const COMMANDS = ["init", "lock", "build", "image", "boot", "inspect", "doctor"];
const PROJECT_COMMANDS = ["lock", "build", "image", "boot"];

function document(stdout: string): Record<string, unknown> {
  return JSON.parse(stdout) as Record<string, unknown>;
}

describe("leveret-os", () => {
  test("explains itself", async () => {
    const { exitCode, stdout, stderr } = await leveretOs("/", ["--help"]);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    expect(stdout).toMatchSnapshot();
  });

  test.each(COMMANDS)("explains %s", async (command) => {
    const { exitCode, stdout } = await leveretOs("/", [command, "--help"]);
    expect(exitCode).toBe(0);
    expect(stdout).toMatchSnapshot();
  });

  test.each([
    [["nonsense"]],
    [["image", "--colour"]],
    [["image", "one", "two"]],
    [["inspect"]],
    [["inspect", "x", "--svg", "--json"]],
    [["init", "--id", "Not An Id"]],
    [["init", "--id", "a".repeat(32)]],
    ...["0", "-1", "soon", "Infinity", "86401"].map((seconds) => [["boot", "--timeout", seconds]]),
  ])("returns 2 for the wrong usage %j and does nothing", async (argv) => {
    const directory = await scratch();
    const { exitCode, stdout, stderr } = await leveretOs(directory, argv);
    expect(exitCode).toBe(2);
    expect(stdout === "" || document(stdout).code === "USAGE").toBe(true);
    expect(stderr).not.toContain("bug");
    expect(await readdir(directory)).toEqual([]);
  });

  test.each(PROJECT_COMMANDS)("%s says what makes a description where there is none", async (command) => {
    const { exitCode, stdout, stderr } = await leveretOs(await scratch(), [command]);
    expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: "" });
    expect(stderr).toMatch(
      /expected a description in .*os\.config\.ts, found none \[OS_NO_CONFIG\]\n {2}leveret-os init/,
    );
  });

  test.each(PROJECT_COMMANDS)("%s --json prints one document for a failure too", async (command) => {
    const directory = await scratch();
    await writeFile(join(directory, "os.config.ts"), "export default { id: 'x' };");
    const { exitCode, stdout, stderr } = await leveretOs("/", [command, directory, "--json"]);
    expect({ exitCode, stderr }).toEqual({ exitCode: 1, stderr: "" });
    expect(document(stdout)).toMatchObject({
      kind: "error",
      version: 1,
      code: "OS_BAD_CONFIG",
      path: join(directory, "os.config.ts"),
      issues: [{ path: "version" }, { path: "source" }],
    });
  });

  test.each(["build", "image", "boot"])("%s asks for a lock, and builds nothing without one", async (command) => {
    const directory = await initialised();
    const { exitCode, stderr } = await leveretOs(directory, [command]);
    expect(exitCode).toBe(1);
    expect(stderr).toContain("[OS_NO_LOCK]\n  leveret-os lock");
    expect(await readdir(directory)).not.toContain("images");
  });

  test("asks for a new lock when the packages changed", async () => {
    const directory = await initialised();
    const file = join(directory, "os.config.ts");
    const { config } = await loadProject(directory);
    const lock = { ...(await exampleLock()), request: debianRequestDigest(debianRequest(config)) };
    await writeDebianLock(join(directory, "os.lock.json"), lock);
    await writeFile(file, (await readFile(file, "utf8")).replace('"less"', '"less", "nano"'));
    const { exitCode, stderr } = await leveretOs(directory, ["build"]);
    expect(exitCode).toBe(1);
    expect(stderr).toContain(`in ${file}, got one that is older than it [OS_STALE_LOCK]\n  leveret-os lock`);
  });

  test("image refuses keys that others may read", async () => {
    const directory = await initialised();
    await chmod(join(directory, "keys", "db.key"), 0o640);
    const { exitCode, stderr } = await leveretOs(directory, ["init"]);
    expect(exitCode).toBe(1);
    expect(stderr).toContain(`got: ${join(directory, "keys", "db.key")} [OS_BAD_KEYS]\n  chmod go= `);
  });

  test("lists every mistake in a description", async () => {
    const directory = await scratch();
    await writeFile(join(directory, "os.config.ts"), "export default { id: 'X', disk: { espMiB: 1 } };");
    expect((await leveretOs(directory, ["lock"])).stderr.replaceAll(directory, "")).toMatchSnapshot();
  });
});

describe("leveret-os init", () => {
  const MADE = [".gitignore", "keys", "os.config.ts"];

  test("makes a description, keys and a .gitignore, and the next time nothing", async () => {
    const directory = join(await scratch(), "My First OS");
    const first = await leveretOs("/", ["init", directory, "--json"]);
    expect(first.exitCode).toBe(0);
    const made = ["os.config.ts", ".gitignore", "keys"].map((name) => join(directory, name));
    expect(document(first.stdout)).toEqual({ kind: "os-init", version: 1, directory, made });
    expect((await readdir(directory)).sort()).toEqual(MADE);
    expect(await readFile(join(directory, "os.config.ts"), "utf8")).toMatchSnapshot();
    expect(await readFile(join(directory, ".gitignore"), "utf8")).toBe("/.leveret/\n/images/\n");
    expect(await readFile(join(directory, "keys", ".gitignore"), "utf8")).toBe("*\n");
    expect((await stat(join(directory, "keys", "db.key"))).mode & 0o777).toBe(0o600);
    const before = await readFile(join(directory, "keys", "db.key"));
    const second = await leveretOs(directory, ["init"]);
    expect(second).toEqual({ exitCode: 0, stdout: "nothing was missing\n", stderr: "" });
    expect(await readFile(join(directory, "keys", "db.key"))).toEqual(before);
  });

  test("leaves a description alone and makes the keys that it names", async () => {
    const directory = await scratch();
    const text =
      'export default { id: "mine", version: "9", source: { kind: "debian", suite: "sid" }, keys: "secret/dev" };';
    await writeFile(join(directory, "os.config.ts"), text);
    const { stdout } = await leveretOs(directory, ["init", "--id", "other"]);
    expect(stdout).toBe("made .gitignore\nmade secret/dev\n");
    expect(await readFile(join(directory, "os.config.ts"), "utf8")).toBe(text);
    expect(await readFile(join(directory, "secret", "dev", ".gitignore"), "utf8")).toBe("*\n");
  });

  test("takes an empty directory for keys that are missing", async () => {
    const directory = await scratch();
    await mkdir(join(directory, "keys"));
    expect((await leveretOs(directory, ["init"])).stdout).toContain("made keys\n");
  });

  test("refuses to complete keys of which some are missing, and names them", async () => {
    const directory = await initialised();
    await rm(join(directory, "keys", "db.key"));
    await rm(join(directory, "keys", "verity.crt"));
    const kept = await readFile(join(directory, "keys", "db.crt"));
    const { exitCode, stdout } = await leveretOs(directory, ["init", "--json"]);
    expect(exitCode).toBe(1);
    const { code, message, hint } = document(stdout);
    expect(code).toBe("OS_BAD_KEYS");
    expect(message).toContain(`${join(directory, "keys", "db.key")}: expected a readable file, got no such file`);
    expect(message).toContain(join(directory, "keys", "verity.crt"));
    expect(hint).toContain(`or move ${join(directory, "keys")} away first`);
    expect(await readFile(join(directory, "keys", "db.crt"))).toEqual(kept);
    expect(await readdir(join(directory, "keys"))).not.toContain("db.key");
  });

  test("needs no private keys that sign no image", async () => {
    const directory = await initialised();
    for (const role of ["PK", "KEK", "pcr"]) await rm(join(directory, "keys", `${role}.key`));
    expect(await leveretOs(directory, ["init"])).toMatchObject({ exitCode: 0, stdout: "nothing was missing\n" });
  });

  test("interrupted leaves no half-made keys", async () => {
    const directory = await scratch();
    const signal = AbortSignal.abort(new Error("Ctrl-C"));
    const { exitCode, stderr } = await leveretOs(directory, ["init"], { signal });
    expect(exitCode).toBe(130);
    expect(stderr).toContain("interrupted");
    expect((await readdir(directory)).sort()).toEqual([".gitignore", "os.config.ts"]);
  });
});

describe("leveret-os inspect", () => {
  test("says that a file is no image", async () => {
    const directory = await scratch();
    await writeFile(join(directory, "file"), Buffer.alloc(2_000_000));
    const { exitCode, stdout } = await leveretOs(directory, ["inspect", "file", "--json"]);
    expect(exitCode).toBe(1);
    expect(document(stdout)).toMatchObject({ kind: "error", code: "DISK_BAD_MAGIC" });
    expect((await leveretOs(directory, ["inspect", "nothing"])).stderr).toContain("[DISK_NOT_FOUND]");
  });

  test("says which keys are missing", async () => {
    const directory = await scratch();
    const { exitCode, stderr } = await leveretOs(directory, ["inspect", "file", "--keys", "keys"]);
    expect(exitCode).toBe(1);
    expect(stderr).toContain(join(directory, "keys", "db.crt"));
  });
});

describe("leveret-os doctor", () => {
  test.each(["20.19.0", "20.20.2", "24.0.0"])("takes Node %s", (version) => {
    expect(supportedNode(version)).toBe(version);
  });

  test.each(["18.20.8", "20.18.3"])("does not take Node %s", (version) => {
    expect(() => supportedNode(version)).toThrow(`${version}, and >=20.19 is needed`);
  });

  test("names everything that is missing, and the command that fixes it", async () => {
    const env = { PATH: "/nonexistent", LEVERET_DEBIAN_MIRROR: "http://127.0.0.1:9/debian" };
    const { exitCode, stdout, stderr } = await leveretOs("/", ["doctor", "--json"], { env });
    expect({ exitCode, stderr }).toEqual({ exitCode: 1, stderr: "" });
    const { kind, ok, findings } = document(stdout);
    expect({ kind, ok }).toEqual({ kind: "os-doctor", ok: false });
    const fixes = (findings as { name: string; ok: boolean; fix?: string }[]).map(({ name, fix }) => [name, fix]);
    expect(Object.fromEntries(fixes)).toMatchObject({
      Node: undefined,
      Nix: "apt-get install nix-bin",
      sandbox: "apt-get install util-linux",
      apt: "apt-get install apt",
      "Debian mirror": undefined,
      flock: "apt-get install util-linux",
      QEMU: "apt-get install qemu-system-x86",
      swtpm: "apt-get install swtpm",
      setpriv: "apt-get install util-linux",
    });
  });

  test("marks every line for a person and ends with what is missing", async () => {
    const { exitCode, stdout, stderr } = await leveretOs("/", ["doctor"], { env: { PATH: "/nonexistent" } });
    expect(exitCode).toBe(1);
    expect(
      stdout
        .split("\n")
        .slice(0, -1)
        .every((line) => /^[✓✗] {2}\S/.test(line)),
    ).toBe(true);
    expect(stdout).toMatch(/^✗ {2}swtpm +no swtpm on the PATH +→ apt-get install swtpm$/m);
    expect(stderr).toMatch(/^error: expected all of these, missing: Nix, .* \[OS_MISSING_TOOLS\]$/m);
  });

  test("does not take a program that may not be run", async () => {
    const directory = await scratch();
    await writeFile(join(directory, "swtpm"), "");
    await chmod(join(directory, "swtpm"), 0o644);
    const { stdout } = await leveretOs("/", ["doctor"], { env: { PATH: directory } });
    expect(stdout).toMatch(/^✗ {2}swtpm/m);
  });
});
