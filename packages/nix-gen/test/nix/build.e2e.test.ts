import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import {
  type BuildFlakeOptions,
  buildFlake,
  derivation,
  fixedOutput,
  fixedOutputStorePath,
  flake,
  type Nix,
  type NixExpr,
  type NixInput,
  openNix,
  type ProgressEvent,
  ref,
  renderFlake,
  source,
  str,
} from "../../src/index.ts";
import { serve } from "../helpers/archive.ts";
import { processesNaming } from "../helpers/processes.ts";
import { asyncRefusal } from "../helpers/refusal.ts";
import { describeWith, nixIn, nixPrograms } from "../helpers/tools.ts";

const SYSTEM = "x86_64-linux";
let directory = "";

/** A flake with one attribute `it`, whose builders are scripts of busybox. */
function project(
  it: NixExpr,
  bindings: Record<string, NixInput> = {},
): Pick<BuildFlakeOptions, "directory" | "attribute"> {
  const at = mkdtempSync(join(directory, "flake #é-"));
  mkdirSync(join(at, "bin"));
  copyFileSync("/bin/busybox", join(at, "bin/busybox"));
  const all = { busybox: str`${source("./bin")}/busybox`, ...bindings };
  writeFileSync(
    join(at, "flake.nix"),
    renderFlake(flake({ bindings: all, outputs: { packages: { [SYSTEM]: { it } } } })),
  );
  return { directory: at, attribute: "it" };
}

function script(name: string, text: string, env: Record<string, NixExpr> = {}): NixExpr {
  const args = ["sh", "-euc", text];
  return derivation({ name, system: SYSTEM, builder: ref("busybox"), args, env: { b: ref("busybox"), ...env } });
}

function file(url: string, name: string, content: string): NixExpr {
  return fixedOutput({ name, url: `${url}/${name}`, hash: createHash("sha256").update(content).digest("hex") });
}

describeWith("building flakes", ["nix", "/bin/busybox"], () => {
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "nix-gen-build-"));
  });
  afterAll(() => {
    // The store is read-only, also for its owner.
    spawnSync("chmod", ["-R", "u+w", directory]);
    rmSync(directory, { recursive: true, force: true });
  });

  describe.each(nixPrograms())("with %s", (program) => {
    const store = (): Promise<Nix> => nixIn(mkdtempSync(join(directory, "s é-")), program);

    test("reports downloads in numbers and bytes, then each build with what it says", async () => {
      const contents = { "a.txt": "a".repeat(1000), "b.txt": "b".repeat(3000) };
      const names = Object.keys(contents);
      const files = mkdtempSync(join(directory, "files-"));
      for (const [name, content] of Object.entries(contents)) writeFileSync(join(files, name), content);
      const server = await serve(files);
      onTestFinished(() => server.close());
      const [a, b] = Object.entries(contents).map(([name, content]) => file(server.url, name, content));
      const events: ProgressEvent[] = [];
      const nix = await store();
      const downloads = Object.entries(contents).map(([name, content]) => ({
        storePath: fixedOutputStorePath(name, createHash("sha256").update(content).digest("hex")),
        sizeBytes: content.length,
      }));
      const made = project(
        script("sum", "echo adding; $b cat $one $two > $out; echo added >&2", {
          one: a ?? ref("busybox"),
          two: b ?? ref("busybox"),
        }),
      );
      const built = await buildFlake(nix, { ...made, downloads, onProgress: (event) => events.push(event) });
      expect(readFileSync(nix.realPath(built), "utf8")).toBe(Object.values(contents).join(""));
      const steps = [...new Set(events.map(({ step }) => step))];
      expect(steps).toEqual(["downloading packages", "building sum"]);
      const first = events.filter(({ step }) => step === "downloading packages");
      expect(first[0]).toMatchObject({ done: 0, total: 2, totalBytes: 4000 });
      expect(first.at(-1)).toMatchObject({ done: 2, total: 2, doneBytes: 4000 });
      expect(names).toContain(first[0]?.item);
      expect(events.filter(({ step }) => step === "building sum").map(({ item }) => item)).toEqual([
        undefined,
        "adding",
        "added",
      ]);
      // What is there is neither downloaded nor counted.
      const again: ProgressEvent[] = [];
      await buildFlake(nix, { ...made, downloads, onProgress: (event) => again.push(event) });
      expect(again).toEqual([]);
    });

    test("builds into a store that is named by its path, with a program that is named by a relative one", async () => {
      const at = mkdtempSync(join(directory, "s é %41-"));
      const link = join(at, "nix");
      const { PATH = "" } = process.env;
      symlinkSync(
        program.includes("/") ? program : execFileSync("which", [program], { encoding: "utf8" }).trim(),
        link,
      );
      const env = { PATH, HOME: at, LEVERET_NIX: relative(process.cwd(), link), LEVERET_NIX_STORE: join(at, "store") };
      const nix = await openNix({ env });
      const built = await buildFlake(nix, project(script("it", "echo done > $out")));
      expect(readFileSync(nix.realPath(built), "utf8")).toBe("done\n");
      expect(nix.realPath(built)).toBe(join(at, "store", built));
    });

    test("says which build failed and what it said last", async () => {
      const text =
        "i=0; while [ $i -lt 60 ]; do echo line $i; i=$((i + 1)); done; printf '\\033[31mred end\\033[0m\\n' >&2; exit 7";
      const bad = project(script("top", "echo never > $out", { below: ref("bottom") }), {
        bottom: script("bottom", text),
      });
      const error = await asyncRefusal(buildFlake(await store(), bad));
      expect(error.code).toBe("NIX_GEN_BUILD_FAILED");
      expect(error.message).toMatch(/^expected bottom to build/);
      expect(error.message).toContain("  line 59\n  red end\n");
      expect(error.message).not.toContain("line 30");
      expect(error.logTail).toContain("line 40");
      expect(error.hint).toContain("-bottom.drv");
      const shown = execFileSync("sh", ["-c", (error.hint ?? "").replace(/^the whole log: /, "")], {
        encoding: "utf8",
      });
      expect(shown.split("\n").slice(0, 2)).toEqual(["line 0", "line 1"]);
    });

    test("says what is wrong with a flake that can't be evaluated", async () => {
      const bad = project(ref("busybox", "nothing"));
      const error = await asyncRefusal(buildFlake(await store(), bad));
      expect(error.code).toBe("NIX_GEN_BUILD_FAILED");
      expect(error.message).toMatch(/^expected the flake to build/);
    });

    test("says that a result is not the same as before", async () => {
      const nix = await store();
      const made = project(script("random", "$b cat /proc/sys/kernel/random/uuid > $out"));
      await buildFlake(nix, made);
      const error = await asyncRefusal(buildFlake(nix, { ...made, rebuild: true }));
      expect(error.code).toBe("NIX_GEN_NOT_REPRODUCIBLE");
    });

    test("stops a build when it is told to, leaves no process behind, and the next one continues", async () => {
      const nix = await store();
      const mark = `1234${Math.floor(Math.random() * 1e6)}`;
      const early = script("early", "echo done > $out");
      const made = project(script("late", `echo begun; $b sleep ${mark}`, { early: ref("early") }), { early });
      const controller = new AbortController();
      const onProgress = ({ item }: ProgressEvent): void => {
        if (item === "begun") controller.abort(new Error("enough"));
      };
      await expect(buildFlake(nix, { ...made, signal: controller.signal, onProgress })).rejects.toThrow("enough");
      await expect.poll(() => [...processesNaming(mark), ...processesNaming(nix.store)]).toEqual([]);
      const events: ProgressEvent[] = [];
      const quick = project(script("late", "echo begun > $out", { early: ref("early") }), { early });
      await buildFlake(nix, { ...quick, onProgress: (event) => events.push(event) });
      expect(events.map(({ step }) => step)).not.toContain("building early");
      await expect(buildFlake(nix, { ...made, signal: AbortSignal.abort(new Error("before")) })).rejects.toThrow(
        "before",
      );
    });

    test("stops a download when it is told to, and the next one begins it again", async () => {
      const content = "x".repeat(100_000);
      const controller = new AbortController();
      const files = mkdtempSync(join(directory, "files-"));
      writeFileSync(join(files, "large.txt"), content);
      const server = await serve(files, (_request, response) => {
        if (controller.signal.aborted) return false;
        response.writeHead(200, { "content-length": content.length });
        response.write(content.slice(0, 50_000));
        setTimeout(() => controller.abort(new Error("enough")), 300);
        return true;
      });
      onTestFinished(() => server.close());
      const nix = await store();
      const made = project(file(server.url, "large.txt", content));
      await expect(buildFlake(nix, { ...made, signal: controller.signal })).rejects.toThrow("enough");
      await expect.poll(() => processesNaming(nix.store)).toEqual([]);
      expect(readFileSync(nix.realPath(await buildFlake(nix, made)), "utf8")).toBe(content);
    });

    test("says that the kernel has no namespaces left", async () => {
      // A user namespace has limits of its own for everything inside of it. The one that is allowed is for a user who
      // is not root, as Nix takes root for somebody who may switch users.
      const without = join(mkdtempSync(join(directory, "p-")), "nix");
      const user = "unshare --user --map-user=1000 --map-group=1000";
      const inside = `echo 1 > /proc/sys/user/max_user_namespaces; exec ${user} ${program} "$@"`;
      writeFileSync(without, `#!/bin/sh\nexec unshare --user --map-root-user sh -c '${inside}' nix "$@"\n`, {
        mode: 0o755,
      });
      const nix = await nixIn(mkdtempSync(join(directory, "s-")), without);
      const error = await asyncRefusal(buildFlake(nix, project(script("it", "echo never > $out"))));
      expect([error.code, error.hint]).toEqual([
        "NIX_GEN_NO_SANDBOX",
        expect.stringContaining("user.max_user_namespaces"),
      ]);
    });

    test.skipIf(process.getuid?.() !== 0)(
      "says that the disk is full (as root, who can mount a small one)",
      async () => {
        const small = mkdtempSync(join(directory, "small-"));
        execFileSync("mount", ["-t", "tmpfs", "-o", "size=8m", "tmpfs", small]);
        onTestFinished(() => void execFileSync("umount", [small]));
        const nix = await nixIn(small, program);
        const inBuild = project(script("large", "$b dd if=/dev/zero of=$out bs=1M count=64"));
        expect((await asyncRefusal(buildFlake(nix, inBuild))).code).toBe("NIX_GEN_DISK_FULL");
        const server = await serve(directory, (_request, response) => {
          response.end(Buffer.alloc(32 << 20));
          return true;
        });
        onTestFinished(() => server.close());
        const download = project(file(server.url, "large.bin", "wrong"));
        expect((await asyncRefusal(buildFlake(nix, download))).code).toBe("NIX_GEN_DISK_FULL");
        expect(existsSync(nix.realPath("/nix/store"))).toBe(true);
      },
    );
  });
});
