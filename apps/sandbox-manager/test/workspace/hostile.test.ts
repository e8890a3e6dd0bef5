import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { MAX_FRAME_SIZE, OPCODE, REQUEST_HEADER_SIZE } from "../../src/workspace/format/fuse.ts";
import { FrameReader } from "../../src/workspace/frame-reader.ts";
import { DEFAULT_HIDDEN, hiddenNames } from "../../src/workspace/hidden.ts";
import { serveWorkspace, type Workspace } from "../../src/workspace/index.ts";
import { encodeRequest, FuseClient, fields, streamPair, text } from "./fuse-client.ts";

let outer: string;
let workspace: Workspace;
let client: FuseClient;
let bugs: unknown[];

beforeEach(async () => {
  outer = mkdtempSync(join(tmpdir(), "workspace-hostile-"));
  mkdirSync(join(outer, "project", "d"), { recursive: true });
  writeFileSync(join(outer, "project", "a"), "contents");
  writeFileSync(join(outer, "secret"), "secret");
  bugs = [];
  const [guest, host] = streamPair();
  client = new FuseClient(guest);
  workspace = await serveWorkspace(host, {
    directory: join(outer, "project"),
    onBug: (error) => void bugs.push(error),
  });
});

afterEach(() => {
  workspace.close();
  rmSync(outer, { recursive: true, force: true });
});

test("every truncation and every changed byte of a request gets an answer, and leaves what is outside alone", async () => {
  const a = await client.lookup("a");
  const d = await client.lookup("d");
  const requests: [number, number, Buffer][] = [
    [OPCODE.lookup, 1, text("a")],
    [OPCODE.getattr, a, fields([0], [0], 0)],
    [OPCODE.setattr, a, fields([0x3f], [0], 0, 3, 0, 1, 1, 0, [0], [0], [0], [0o600], [0], [0], [0], [0])],
    [OPCODE.symlink, d, text("s", "../../secret")],
    [OPCODE.mknod, d, Buffer.concat([fields([0o100644], [0], [0], [0]), text("n")])],
    [OPCODE.mkdir, d, Buffer.concat([fields([0o755], [0]), text("m")])],
    [OPCODE.create, d, Buffer.concat([fields([0o102], [0o644], [0], [0]), text("c")])],
    [OPCODE.link, d, Buffer.concat([fields(a), text("l")])],
    [OPCODE.read, a, fields(0, 0, [4096], [0], 0, [0], [0])],
    [OPCODE.write, a, Buffer.concat([fields(0, 0, [4], [0], 0, [0], [0]), Buffer.from("data")])],
    [OPCODE.readdirplus, 1, fields(0, 0, [4096], [0], 0, [0], [0])],
    [OPCODE.readdir, 1, fields(0, 0, [4096], [0], 0, [0], [0])],
    [OPCODE.init, 0, fields([7], [38], [4096], [0], [0])],
    [OPCODE.copyFileRange, a, fields(0, 0, a, 0, 4, 4, 0)],
    [OPCODE.rename2, d, Buffer.concat([fields(1, [0], [0]), text("c", "r")])],
    [OPCODE.rmdir, d, text("m")],
    [OPCODE.unlink, d, text("s")],
  ];
  const answers: Promise<unknown>[] = [];
  for (const [opcode, node, body] of requests) {
    for (let length = 0; length <= body.length; length++)
      answers.push(client.ask(opcode, node, body.subarray(0, length)));
    for (let index = 0; index < body.length; index++) {
      const changed = Buffer.from(body);
      changed.writeUInt8((changed[index] ?? 0) ^ (1 << (index % 8)), index);
      // A file of exabytes is the file system's affair, and a test's that waits for it.
      if (opcode !== OPCODE.setattr || index < 16 || index > 24) answers.push(client.ask(opcode, node, changed));
    }
  }
  await Promise.all(answers);
  expect(bugs).toEqual([]);
  expect(readdirSync(outer).sort()).toEqual(["project", "secret"]);
  expect(readFileSync(join(outer, "secret"), "latin1")).toBe("secret");
});

test("requests are cut out of whatever pieces they come in", () => {
  const frames = [text("a"), text("b".repeat(5000)), Buffer.alloc(0)].map((body) =>
    encodeRequest(OPCODE.lookup, 1, body),
  );
  const all = Buffer.concat(frames);
  for (const size of [1, 7, 39, 40, 41, 1000, all.length]) {
    const seen: string[] = [];
    const reader = new FrameReader((frame) => void seen.push(frame.toString("hex")));
    for (let at = 0; at < all.length; at += size) reader.push(all.subarray(at, at + size));
    expect(seen).toEqual(frames.map((frame) => frame.toString("hex")));
  }
});

test.each([0, 1, REQUEST_HEADER_SIZE - 1, MAX_FRAME_SIZE + 1, 0xffff_ffff])("a length of %d is refused", (length) => {
  const header = Buffer.alloc(REQUEST_HEADER_SIZE);
  header.writeUInt32LE(length);
  for (const size of [1, REQUEST_HEADER_SIZE]) {
    const reader = new FrameReader(() => {});
    expect(() => {
      for (let at = 0; at < header.length; at += size) reader.push(header.subarray(at, at + size));
    }).toThrow(expect.objectContaining({ code: "SANDBOX_WORKSPACE_PROTOCOL" }));
  }
});

test("patterns hide names", () => {
  const isHidden = hiddenNames(DEFAULT_HIDDEN);
  const hidden = [
    ".env",
    ".env.local",
    ".ENV.production",
    "id_ed25519",
    "tls-key.pem",
    "privkey1.pem",
    "a.p12",
    ".aws",
  ];
  const shown = [".env.example", ".envrc", "environment", "ca.pem", "id_rsa.pub", "keys.ts", ".npmrc", "x.env", "env"];
  expect(hidden.filter((name) => !isHidden(name))).toEqual([]);
  expect(shown.filter((name) => isHidden(name))).toEqual([]);
  const own = hiddenNames(["a*b*c", "!abc", "*"]);
  expect(own("anything")).toBe(true);
  expect(["abc", "axbxc", "ac", "abxc"].map(hiddenNames(["a*b*c", "!abc"]))).toEqual([false, true, false, true]);
  expect(hiddenNames([])(".env")).toBe(false);
});
