import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  block,
  builtin,
  call,
  derivation,
  EMPTY_FLAKE_LOCK,
  fixedOutput,
  flake,
  op,
  parseFlakeLock,
  readNarHash,
  ref,
  renderFlake,
  renderFlakeLock,
  source,
  str,
} from "../../src/index.ts";
import { findOracles, nixEnvironment, type Oracle } from "../helpers/oracle.ts";

// A static shell for the build: there is none in Nix's sandbox (apt: busybox-static).
const BUSYBOX = "/bin/busybox";
const hasBusybox = existsSync(BUSYBOX);
if (!hasBusybox && process.env.REQUIRE_ORACLES === "1")
  throw new Error(`expected ${BUSYBOX}, got none (REQUIRE_ORACLES=1)`);
const oracles = findOracles();
const SYSTEM = "x86_64-linux";
const FETCHED = "fetched ${by} Nix\n";

if (oracles.length === 0) test.skip("building flakes with Nix itself, which needs nix-instantiate (apt: nix-bin)");

let directory = "";
let server: Server;
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "nix-gen-flake-"));
  server = createServer((_request, response) => response.end(FETCHED));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
});
afterAll(() => {
  server.close();
  // The store is read-only, also for its owner.
  spawnSync("chmod", ["-R", "u+w", directory]);
  rmSync(directory, { recursive: true, force: true });
});

describe.each(oracles)("Nix $version", (oracle) => {
  let root = "";
  beforeAll(() => {
    root = mkdtempSync(join(directory, "nix-"));
  });

  test.skipIf(!hasBusybox)("builds a generated flake: fetch, shell, odd names, odd text", async () => {
    const { port } = server.address() as AddressInfo;
    const at = join(root, "flake");
    mkdirSync(join(at, "my tools"), { recursive: true });
    copyFileSync(BUSYBOX, join(at, "my tools", "busybox"));
    chmodSync(join(at, "my tools", "busybox"), 0o755);
    const text = "a ${b} $c 'd' \"e\" \\ \t\n\r é😀";
    const made = flake({
      description: 'says "${hello}"',
      bindings: {
        fetched: fixedOutput({
          name: "fetched",
          url: str`http://127.0.0.1:${String(port)}/file`,
          hash: createHash("sha256").update(FETCHED).digest("hex"),
        }),
      },
      outputs: {
        packages: {
          [SYSTEM]: {
            default: derivation({
              name: "odd",
              system: SYSTEM,
              builder: str`${source("./my tools")}/busybox`,
              args: ["sh", "-c", block('printf %s "$text" > $out\n"$tools/busybox" cat $fetched >> $out\n')],
              env: { text, fetched: ref("fetched"), tools: source("./my tools") },
            }),
          },
        },
        checks: { [SYSTEM]: { same: ref("self", "packages", SYSTEM, "default") } },
        others: { lib: { length: call(builtin("stringLength"), op("+", text, "")) } },
      },
    });
    writeFileSync(join(at, "flake.nix"), renderFlake(made));
    writeFileSync(join(at, "flake.lock"), renderFlakeLock(EMPTY_FLAKE_LOCK));
    const lockBefore = readFileSync(join(at, "flake.lock"), "utf8");

    const metadata = JSON.parse(await nix(oracle, root, "flake", "metadata", "--json", `path:${at}`));
    expect(metadata.description).toBe('says "${hello}"');
    await nix(oracle, root, "flake", "check", `path:${at}`);
    const [built] = JSON.parse(await nix(oracle, root, "build", "--json", "--no-link", `path:${at}#default`));
    const out = join(root, "root", built.outputs.out);
    expect(readFileSync(out, "utf8")).toBe(`${text}${FETCHED}`);
    expect(await nix(oracle, root, "eval", "--json", `path:${at}#lib.length`)).toMatch(
      new RegExp(`^${Buffer.byteLength(text)}\\n?$`),
    );
    expect(readFileSync(join(at, "flake.lock"), "utf8")).toBe(lockBefore);
  });

  test("locks a generated flake with inputs, and its lock is read and printed byte for byte", async () => {
    const at = join(root, "inputs");
    for (const name of ["a", "b"]) {
      mkdirSync(join(at, name), { recursive: true });
      const inputs = name === "a" ? { inputs: { b: { url: `path:${join(at, "b")}` } } } : {};
      writeFileSync(
        join(at, name, "flake.nix"),
        renderFlake(flake({ ...inputs, outputs: { others: { lib: { name } } } })),
      );
    }
    const made = flake({
      inputs: {
        a: { url: `path:${join(at, "a")}`, inputs: { b: { follows: "c" } } },
        c: { url: `path:${join(at, "b")}` },
        tree: { url: `path:${join(at, "b")}`, flake: false },
      },
      outputs: { others: { lib: { names: [ref("a", "lib", "name"), ref("c", "lib", "name")] } } },
    });
    mkdirSync(join(at, "top"));
    writeFileSync(join(at, "top", "flake.nix"), renderFlake(made));
    await nix(oracle, root, "flake", "lock", `path:${join(at, "top")}`);
    const text = readFileSync(join(at, "top", "flake.lock"), "utf8");
    const lock = parseFlakeLock(text);
    expect(renderFlakeLock(lock)).toBe(text);
    expect(lock.nodes.a?.inputs).toEqual({ b: ["c"] });
    expect(lock.nodes.a?.locked?.narHash).toBe(await readNarHash(join(at, "a")));
    expect(await nix(oracle, root, "eval", "--json", `path:${join(at, "top")}#lib.names`)).toMatch(/^\["a","b"\]\n?$/);
  });

  test("agrees on the hash of a tree", async () => {
    const at = join(root, "tree");
    mkdirSync(join(at, "empty"), { recursive: true });
    for (const size of [0, 1, 7, 8, 9, 70_000]) writeFileSync(join(at, `file ${size} é😀`), "x".repeat(size));
    // A name that is not UTF-8.
    writeFileSync(Buffer.concat([Buffer.from(`${at}/`), Buffer.of(0xff, 0xfe)]), "bytes");
    writeFileSync(join(at, "program"), "", { mode: 0o755 });
    writeFileSync(join(at, "group only"), "");
    chmodSync(join(at, "group only"), 0o654);
    symlinkSync("../somewhere é", join(at, "link"));
    expect(await readNarHash(at)).toBe((await nix(oracle, root, "hash", "path", at)).trim());
    const link = join(at, "link");
    expect(await readNarHash(join(at, "program"))).toBe(
      (await nix(oracle, root, "hash", "path", join(at, "program"))).trim(),
    );
    expect(await readNarHash(link)).not.toBe(await readNarHash(at));
  });
});

/** Runs `nix` beside the oracle's `nix-instantiate`, with a store of its own, while this process serves files. */
function nix(oracle: Oracle, root: string, ...args: readonly string[]): Promise<string> {
  const command = oracle.command.includes("/") ? join(dirname(oracle.command), "nix") : "nix";
  mkdirSync(join(root, "home"), { recursive: true });
  const env = nixEnvironment(oracle, join(root, "home"), `local?root=${join(root, "root")}`);
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { env, stdio: ["ignore", "pipe", "pipe"] });
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (chunk) => (stdout += chunk));
    child.stderr.on("data", (chunk) => (stderr += chunk));
    child.on("error", reject);
    child.on("close", (status) => {
      if (status === 0) resolve(stdout);
      else reject(new Error(`${basename(command)} ${args.join(" ")} of Nix ${oracle.version} failed:\n${stderr}`));
    });
  });
}
