import { execFileSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { NOTIFY, OPCODE, SETATTR, TELL } from "../../src/workspace/format/fuse.ts";
import { serveWorkspace, type Workspace, type WorkspaceOptions } from "../../src/workspace/index.ts";
import {
  ATTR_IN_ENTRY,
  ATTR_IN_REPLY,
  attrOf,
  encodeRequest,
  entriesOf,
  FuseClient,
  fields,
  nodeOf,
  streamPair,
  text,
} from "./fuse-client.ts";

const { errno } = constants;
const NO_WAIT = { timeout: 10_000, interval: 5 };

let outer: string;
let directory: string;
let workspace: Workspace;
let client: FuseClient;
let bugs: unknown[];

async function serve(options: Partial<WorkspaceOptions> = {}): Promise<void> {
  const [guest, host] = streamPair();
  client = new FuseClient(guest);
  workspace = await serveWorkspace(host, { directory, onBug: (error) => void bugs.push(error), ...options });
}

beforeEach(async () => {
  outer = mkdtempSync(join(tmpdir(), "workspace-"));
  directory = join(outer, "project");
  mkdirSync(directory);
  bugs = [];
  await serve();
});

afterEach(() => {
  workspace.close();
  rmSync(outer, { recursive: true, force: true });
  expect(bugs).toEqual([]);
});

function put(path: string, contents = path): void {
  writeFileSync(join(directory, path), contents);
}

function on(path: string): string {
  return readFileSync(join(directory, path), "latin1");
}

const rename = (from: number, name: string, to: number, newName: string, flags = 0) =>
  client.ask(OPCODE.rename2, from, Buffer.concat([fields(to, [flags], [0]), text(name, newName)]));
const mkdir = async (name: string, parent = 1) =>
  nodeOf(await client.do(OPCODE.mkdir, parent, Buffer.concat([fields([0o755], [0]), text(name)])));
const list = async (node: number, cookie = 0, size = 4096) =>
  entriesOf(await client.do(OPCODE.readdirplus, node, fields(0, cookie, [size], [0], 0, [0], [0])));
const setattr = (node: number, valid: number, { size = 0, atime = 0, mtime = 0, mode = 0, uid = 0 }) =>
  client.ask(
    OPCODE.setattr,
    node,
    fields([valid], [0], 0, size, 0, atime, mtime, 0, [5], [7], [0], [mode], [0], [uid], [0], [0]),
  );

describe("a guest", () => {
  test("agrees on a version, and on what is remembered", async () => {
    const all = 0xffff_ffff;
    const reply = await client.do(OPCODE.init, 0, fields([7], [38], [1 << 20], [all], [0]));
    expect([reply.readUInt32LE(0), reply.readUInt32LE(4)]).toEqual([7, 38]);
    expect(reply.readUInt32LE(8)).toBe(256 * 1024);
    // Neither a cache of writes, which would hide the host's edits, nor locks.
    expect(reply.readUInt32LE(12)).toBe(0x1c6_b021);
    expect(reply.readUInt32LE(20)).toBe(256 * 1024);
    expect((await client.ask(OPCODE.init, 0, fields([7], [30], [0], [0], [0]))).errno).toBe(errno.EPROTO);
    expect((await client.do(OPCODE.init, 0, fields([8], [0], [0], [0], [0]))).readUInt32LE(0)).toBe(7);
  });

  test("reads what the host wrote, and the host what the guest wrote", async () => {
    put("a.txt", "from the host");
    const node = await client.lookup("a.txt");
    expect(await client.read(node)).toBe("from the host");
    expect((await client.write(node, 9, "guest")).errno).toBe(0);
    expect(on("a.txt")).toBe("from the guest");
    const made = await client.create("b.txt", 1, 0o4640);
    await client.write(made, 0, "made");
    expect(on("b.txt")).toBe("made");
    // Whatever the host's umask is; but no rights of an owner for whoever starts it.
    expect(statSync(join(directory, "b.txt")).mode & 0o7777).toBe(0o640);
  });

  test("sees everything as its own", async () => {
    workspace.close();
    await serve({ uid: 1000, gid: 100 });
    put("a.txt", "12345");
    const entry = await client.do(OPCODE.lookup, 1, text("a.txt"));
    expect(attrOf(entry, ATTR_IN_ENTRY)).toMatchObject({ size: 5, uid: 1000, gid: 100, nlink: 1 });
    const reply = await setattr(nodeOf(entry), 0b110, { uid: 5 });
    expect(attrOf(reply.body, ATTR_IN_REPLY)).toMatchObject({ uid: 1000 });
    expect(statSync(join(directory, "a.txt")).uid).toBe(process.getuid?.());
  });

  test("sets sizes, modes and times", async () => {
    put("a.txt", "12345");
    const node = await client.lookup("a.txt");
    await setattr(node, SETATTR.size | SETATTR.mode, { size: 3, mode: 0o6751 });
    const reply = await setattr(node, SETATTR.mtime | SETATTR.atime, { atime: 1_000_000_000, mtime: -5 });
    expect(attrOf(reply.body, ATTR_IN_REPLY)).toMatchObject({ size: 3, mode: 0o100751, mtime: -5 });
    expect(on("a.txt")).toBe("123");
    expect(lstatSync(join(directory, "a.txt")).mtimeMs).toBeCloseTo(-5000, 0);
    await setattr(node, SETATTR.mtime | SETATTR.mtimeNow, {});
    expect(Math.abs(lstatSync(join(directory, "a.txt")).mtimeMs - Date.now())).toBeLessThan(60_000);
  });

  test("makes directories, links and names of any bytes", async () => {
    const sub = await mkdir("sub");
    expect(await client.create("\xff\xfe", sub)).toBeGreaterThan(1);
    expect(readdirSync(Buffer.from(join(directory, "sub")), { encoding: "latin1" })).toEqual(["\xff\xfe"]);
    await client.do(OPCODE.symlink, 1, text("link", "/etc/\xe4"));
    expect(readlinkSync(join(directory, "link"), { encoding: "latin1" })).toBe("/etc/\xe4");
    const link = await client.lookup("link");
    expect((await client.do(OPCODE.readlink, link)).toString("latin1")).toBe("/etc/\xe4");
    const file = await client.lookup("sub/\xff\xfe");
    const entry = await client.do(OPCODE.link, 1, Buffer.concat([fields(file), text("hard")]));
    expect(nodeOf(entry)).toBe(file);
    expect(attrOf(entry, ATTR_IN_ENTRY).nlink).toBe(2);
  });

  test("lists directories in pieces, and misses nothing while names come and go", async () => {
    for (let index = 0; index < 60; index++) put(`file-${String(index).padStart(2, "0")}`);
    const first = await list(1);
    expect(first.names.length).toBeGreaterThan(10);
    expect(first.names.slice(0, 3).map(({ name }) => name)).toEqual([".", "..", "file-00"]);
    unlinkSync(join(directory, "file-00"));
    unlinkSync(join(directory, "file-59"));
    put("aaa");
    // Somebody else begins in the meantime.
    expect((await list(1)).names.map(({ name }) => name)).not.toContain("file-00");
    const seen = first.names;
    for (let { cookie } = first; ; ) {
      const next = await list(1, cookie);
      if (next.names.length === 0) break;
      seen.push(...next.names);
      cookie = next.cookie;
    }
    const names = seen.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    expect(names).toEqual(expect.arrayContaining(readdirSync(directory)));
    expect(await client.read(seen[5]?.node ?? 0)).toBe(seen[5]?.name);
  });

  test("renames, and refuses to replace or exchanges when it wants that", async () => {
    for (const name of ["a", "b"]) put(name);
    const a = await client.lookup("a");
    const sub = await mkdir("sub");
    expect((await rename(1, "a", 1, "b", 1)).errno).toBe(errno.EEXIST);
    expect((await rename(1, "a", sub, "c", 1)).errno).toBe(0);
    expect(on("sub/c")).toBe("a");
    expect(await client.read(a)).toBe("a");
    expect((await rename(sub, "c", 1, "b", 2)).errno).toBe(0);
    expect([on("sub/c"), on("b")]).toEqual(["b", "a"]);
    expect(await client.lookup("b")).toBe(a);
    expect((await rename(1, "b", sub, "c")).errno).toBe(0);
    expect([on("sub/c"), existsSync(join(directory, "b"))]).toEqual(["a", false]);
    const moved = await client.lookup("sub/c");
    expect(moved).toBe(a);
    await mkdir("empty");
    expect((await rename(1, "sub", 1, "empty", 1)).errno).toBe(errno.EEXIST);
    expect((await rename(1, "sub", 1, "new", 1)).errno).toBe(0);
    expect(await client.read(a)).toBe("a");
    expect((await rename(1, "new", 1, "x", 4)).errno).toBe(errno.EINVAL);
    expect((await rename(1, "none", 1, "x")).errno).toBe(errno.ENOENT);
    expect(readdirSync(directory).sort()).toEqual(["empty", "new"]);
  });

  test("goes on with a file that was removed while it was open", async () => {
    put("a", "still here");
    const node = await client.lookup("a");
    await client.do(OPCODE.unlink, 1, text("a"));
    expect(existsSync(join(directory, "a"))).toBe(false);
    expect(await client.read(node)).toBe("still here");
    await client.write(node, 0, "STILL");
    expect(await client.read(node)).toBe("STILL here");
    client.send(encodeRequest(OPCODE.forget, node, fields(1)));
    expect((await client.ask(OPCODE.getattr, node, fields([0], [0], 0))).errno).toBe(errno.ESTALE);
  });

  test("writes to a file whose mode forbids that, as whoever opened it before may", async () => {
    const node = await client.create("a", 1, 0o444);
    // More files than are kept open.
    for (let index = 0; index < 300; index++) await client.write(await client.create(`f${index}`), 0, "x");
    expect((await client.write(node, 0, "read-only")).errno).toBe(0);
    expect(on("a")).toBe("read-only");
    expect(statSync(join(directory, "a")).mode & 0o777).toBe(0o444);
  });

  test("appends where the end is, not where it was", async () => {
    put("log", "one\n");
    const node = await client.lookup("log");
    writeFileSync(join(directory, "log"), "two\n", { flag: "a" });
    expect((await client.write(node, 4, "three\n", 0o2001)).errno).toBe(0);
    expect(on("log")).toBe("one\ntwo\nthree\n");
    await expect.poll(() => client.notices.map(({ code }) => code), NO_WAIT).toContain(NOTIFY.invalInode);
  });

  test("moves big pieces and copies without moving them", async () => {
    const bytes = Buffer.alloc(256 * 1024, "0123456789abcdef-").toString("latin1");
    const node = await client.create("big");
    const replies = await Promise.all([0, 1, 2].map((index) => client.write(node, index * bytes.length, bytes)));
    expect(replies.map(({ errno: number, body }) => [number, body.readUInt32LE(0)])).toEqual(
      Array(3).fill([0, bytes.length]),
    );
    const copy = await client.create("copy");
    const reply = await client.do(OPCODE.copyFileRange, node, fields(0, 5, copy, 0, 3, 10_000_000, 0));
    expect(reply.readUInt32LE(0)).toBe(3 * bytes.length - 5);
    expect(on("copy").slice(3) === bytes.repeat(3).slice(5)).toBe(true);
    const read = await client.do(OPCODE.read, node, fields(0, bytes.length, [256 * 1024], [0], 0, [0], [0]));
    expect(read.toString("latin1") === bytes).toBe(true);
    expect((await client.ask(OPCODE.fsync, node, fields(0, [0], [0]))).errno).toBe(0);
    expect((await client.ask(OPCODE.fsyncdir, 1, fields(0, [0], [0]))).errno).toBe(0);
    expect((await client.do(OPCODE.statfs, 1)).readBigUInt64LE(0)).toBeGreaterThan(0n);
  });
});

describe("a guest that may only look", () => {
  beforeEach(async () => {
    workspace.close();
    await serve({ readOnly: true });
  });

  test("changes nothing", async () => {
    put("a", "old");
    const a = await client.lookup("a");
    const refused = [
      await client.write(a, 0, "new"),
      await setattr(a, SETATTR.size, { size: 0 }),
      await rename(1, "a", 1, "b"),
      await client.ask(OPCODE.unlink, 1, text("a")),
      await client.ask(OPCODE.mkdir, 1, Buffer.concat([fields([0o755], [0]), text("sub")])),
      await client.ask(OPCODE.symlink, 1, text("link", "a")),
      await client.ask(OPCODE.link, 1, Buffer.concat([fields(a), text("b")])),
      await client.ask(OPCODE.copyFileRange, a, fields(0, 0, a, 0, 3, 1, 0)),
      await client.ask(OPCODE.create, 1, Buffer.concat([fields([0], [0o644], [0], [0]), text("b")])),
    ];
    expect(refused.map(({ errno: number }) => number)).toEqual(refused.map(() => errno.EROFS));
    expect(readdirSync(directory)).toEqual(["a"]);
    expect(on("a")).toBe("old");
  });

  test("keeps two names of one file apart, because the host may make two files of them", async () => {
    put("a", "both");
    linkSync(join(directory, "a"), join(directory, "c"));
    const [a, c] = [await client.lookup("a"), await client.lookup("c")];
    put("b", "new");
    renameSync(join(directory, "b"), join(directory, "a"));
    await expect.poll(() => client.notices.map(({ code }) => code), NO_WAIT).toContain(NOTIFY.invalInode);
    expect([await client.read(a), await client.read(c)]).toEqual(["new", "both"]);
  });

  test("keeps the names that it knows, with the contents that the host has", async () => {
    put("a", "old");
    mkdirSync(join(directory, "sub"));
    put("sub/x", "1");
    const a = await client.lookup("a");
    const sub = await client.lookup("sub");
    const x = await client.lookup("x", sub);
    expect([await client.read(a), await client.read(x)]).toEqual(["old", "1"]);
    put("b", "another file");
    renameSync(join(directory, "b"), join(directory, "a"));
    renameSync(join(directory, "sub"), join(directory, "old-sub"));
    mkdirSync(join(directory, "sub"));
    put("sub/x", "22");
    await expect.poll(() => client.notices.map(({ code }) => code), NO_WAIT).toContain(NOTIFY.invalInode);
    expect([await client.read(a), await client.read(x)]).toEqual(["another file", "22"]);
    expect([await client.lookup("a"), await client.lookup("x", sub)]).toEqual([a, x]);
    rmSync(join(directory, "a"));
    expect((await client.ask(OPCODE.getattr, a, fields([0], [0], 0))).errno).toBe(errno.ESTALE);
    await workspace.settled();
    // A layer on top of this one knows its names for good, and would take a touched file for one that is changed.
    const codes = new Set(client.notices.map(({ code }) => code));
    expect([...codes].filter((code) => code !== NOTIFY.invalInode)).toEqual([]);
  });
});

describe("the host's edits", () => {
  const codes = () => client.notices.map(({ code }) => code);

  test("are told to the guest, and its own are not", async () => {
    put("a", "1");
    const a = await client.lookup("a");
    await client.write(a, 0, "2");
    const b = await client.create("b");
    await client.write(b, 0, "b");
    await rename(1, "b", 1, "c");
    await mkdir("sub");
    await client.do(OPCODE.rmdir, 1, text("sub"));
    // The system's own events of all this come first.
    utimesSync(join(directory, "a"), 1, 1);
    await expect.poll(codes, NO_WAIT).toEqual([NOTIFY.invalInode, TELL.touch]);
    expect(client.notices[0]?.body.readBigUInt64LE(0)).toBe(BigInt(a));
    expect(client.notices[1]?.body.toString()).toBe("a\0");
    await workspace.settled();
  });

  test("of names are told, whatever the guest believed of them", async () => {
    const sub = await mkdir("sub");
    expect(await client.lookup("new", sub)).toBe(0);
    writeFileSync(join(directory, "sub", "new"), "x");
    await expect.poll(codes, NO_WAIT).toContain(TELL.touch);
    const entry = client.notices.find(({ code }) => code === NOTIFY.invalEntry)?.body;
    expect(Number(entry?.readBigUInt64LE(0))).toBe(sub);
    expect(entry?.subarray(16).toString()).toBe("new\0");
    const node = await client.lookup("new", sub);
    expect(node).toBeGreaterThan(1);
    client.notices.length = 0;
    rmSync(join(directory, "sub", "new"));
    await expect.poll(codes, NO_WAIT).toContain(NOTIFY.invalEntry);
    expect((await client.ask(OPCODE.getattr, node, fields([0], [0], 0))).errno).toBe(errno.ESTALE);
  });

  test("that put another file in the place of one do not reach the old one", async () => {
    put("a", "old");
    const node = await client.lookup("a");
    put("b", "new");
    renameSync(join(directory, "b"), join(directory, "a"));
    expect((await client.write(node, 0, "lost")).errno).toBe(errno.ESTALE);
    expect(on("a")).toBe("new");
    const again = await client.lookup("a");
    expect(again).not.toBe(node);
    expect(await client.read(again)).toBe("new");
  });

  test("are noticed after a second where directories cannot be watched", async () => {
    workspace.close();
    await serve({ maxWatches: 0 });
    put("a");
    const entry = await client.do(OPCODE.lookup, 1, text("a"));
    expect([entry.readBigUInt64LE(16), entry.readBigUInt64LE(24)]).toEqual([1n, 1n]);
  });
});

describe("a guest that attacks", () => {
  test("does not get out by links, names or renamed directories", async () => {
    writeFileSync(join(outer, "secret"), "secret");
    symlinkSync("..", join(directory, "up"));
    symlinkSync("../secret", join(directory, "link"));
    const up = await client.lookup("up");
    const link = await client.lookup("link");
    for (const name of ["..", ".", "", "a/b", "../secret", "up/secret", "a\0b"]) {
      const reply = await client.ask(OPCODE.lookup, 1, text(name));
      expect([name, reply.errno]).toEqual([name, errno.EINVAL]);
      const made = await client.ask(OPCODE.create, 1, Buffer.concat([fields([0o102], [0o644], [0], [0]), text(name)]));
      expect([name, made.errno]).toEqual([name, errno.EINVAL]);
    }
    expect((await client.ask(OPCODE.lookup, up, text("secret"))).errno).toBe(errno.ENOTDIR);
    expect((await client.ask(OPCODE.read, link, fields(0, 0, [10], [0], 0, [0], [0]))).errno).toBe(errno.EINVAL);
    expect((await client.write(link, 0, "x")).errno).toBe(errno.EINVAL);
    expect((await setattr(link, SETATTR.size, { size: 0 })).errno).toBe(errno.EINVAL);
    await setattr(link, SETATTR.mode, { mode: 0o777 });
    await setattr(link, SETATTR.mtime, { mtime: 5 });
    expect(statSync(join(outer, "secret")).mode & 0o777).not.toBe(0o777);
    expect(statSync(join(outer, "secret")).mtimeMs).toBeGreaterThan(1e12);
    expect((await client.ask(OPCODE.lookup, 1, text("x".repeat(256)))).errno).toBe(errno.ENAMETOOLONG);
    expect(readFileSync(join(outer, "secret"), "latin1")).toBe("secret");
  });

  test("does not get out of a directory that became a link meanwhile", async () => {
    mkdirSync(join(directory, "d"));
    put("d/file", "inside");
    mkdirSync(join(outer, "elsewhere"));
    writeFileSync(join(outer, "elsewhere", "file"), "outside");
    const d = await client.lookup("d");
    const file = await client.lookup("file", d);
    renameSync(join(directory, "d"), join(directory, "was"));
    symlinkSync("../elsewhere", join(directory, "d"));
    const reply = await client.write(file, 0, "x");
    // Either the directory that it was, or nothing at all.
    expect([0, errno.ESTALE]).toContain(reply.errno);
    await client.ask(OPCODE.create, d, Buffer.concat([fields([0o102], [0o644], [0], [0]), text("made")]));
    await client.ask(OPCODE.unlink, d, text("file"));
    expect(readFileSync(join(outer, "elsewhere", "file"), "latin1")).toBe("outside");
    expect(readdirSync(join(outer, "elsewhere"))).toEqual(["file"]);
  });

  test("does not see hidden names, nor makes, links or renames them", async () => {
    put(".env", "SECRET=1");
    put(".env.example", "SECRET=");
    put("a", "a");
    const names = (await list(1)).names.map(({ name }) => name);
    expect(names.sort()).toEqual([".", "..", ".env.example", "a"]);
    const a = await client.lookup("a");
    for (const name of [".env", ".ENV", ".env.local", "id_rsa", "server.KEY.pem"]) {
      expect(await client.lookup(name)).toBe(0);
      const made = await client.ask(OPCODE.create, 1, Buffer.concat([fields([0o102], [0o644], [0], [0]), text(name)]));
      expect([name, made.errno]).toEqual([name, errno.EACCES]);
      expect((await rename(1, "a", 1, name)).errno).toBe(errno.EACCES);
      expect((await rename(1, name, 1, "b")).errno).toBe(errno.ENOENT);
      expect((await client.ask(OPCODE.link, 1, Buffer.concat([fields(a), text(name)]))).errno).toBe(errno.EACCES);
      expect((await client.ask(OPCODE.symlink, 1, text(name, "a"))).errno).toBe(errno.EACCES);
      expect((await client.ask(OPCODE.mkdir, 1, Buffer.concat([fields([0o755], [0]), text(name)]))).errno).toBe(
        errno.EACCES,
      );
      expect((await client.ask(OPCODE.unlink, 1, text(name))).errno).toBe(errno.ENOENT);
    }
    expect(on(".env")).toBe("SECRET=1");
  });

  test("makes no devices, pipes or programs with the rights of their owner", async () => {
    const mknod = (mode: number) =>
      client.ask(OPCODE.mknod, 1, Buffer.concat([fields([mode], [0x103], [0], [0]), text(`m${mode}`)]));
    for (const kind of [0o020000, 0o060000, 0o010000, 0o140000]) {
      expect((await mknod(kind | 0o666)).errno).toBe(errno.EPERM);
    }
    expect((await mknod(0o106755)).errno).toBe(0);
    expect(statSync(join(directory, `m${0o106755}`)).mode & 0o7777).toBe(0o755);
  });

  test("does not make the host wait for a pipe, or open a device", async () => {
    execFileSync("mkfifo", [join(directory, "pipe")]);
    const pipe = await client.lookup("pipe");
    expect((await client.ask(OPCODE.read, pipe, fields(0, 0, [10], [0], 0, [0], [0]))).errno).toBe(errno.EINVAL);
    expect((await client.write(pipe, 0, "x")).errno).toBe(errno.EINVAL);
  });

  test("gets an errno for numbers that it was never given, and for requests that are no such", async () => {
    put("a");
    const a = await client.lookup("a");
    for (const node of [0, 2, a + 1, 2n ** 53n, 2n ** 64n - 1n]) {
      expect((await client.ask(OPCODE.getattr, node, fields([0], [0], 0))).errno).toBe(errno.ESTALE);
      expect((await client.ask(OPCODE.lookup, node, text("a"))).errno).toBe(errno.ESTALE);
    }
    expect((await client.ask(OPCODE.lookup, 1, Buffer.from("a"))).errno).toBe(errno.EINVAL);
    expect((await client.ask(OPCODE.lookup, 1)).errno).toBe(errno.EINVAL);
    expect((await client.ask(OPCODE.lookup, 1, text("a", "b"))).errno).toBe(errno.EINVAL);
    expect((await client.ask(OPCODE.read, a, fields(0, -1, [10], [0], 0, [0], [0]))).errno).toBe(errno.EINVAL);
    expect((await client.ask(OPCODE.read, a, fields(0, 0, [0xffff_ffff], [0], 0, [0], [0]))).errno).toBe(errno.EINVAL);
    expect((await client.ask(OPCODE.write, a, fields(0, 0, [1000], [0], 0, [0], [0]))).errno).toBe(errno.EINVAL);
    // Says more than it has, and gets no reply, because nobody would wait for one.
    client.send(encodeRequest(OPCODE.batchForget, 0, fields([0xffff_ffff], [0], 7, 1)));
    for (const opcode of [0, 14, 22, 25, 27, 46, 9999]) {
      expect((await client.ask(opcode, 1)).errno).toBe(errno.ENOSYS);
    }
  });

  test("keeps no more nodes than it may", async () => {
    workspace.close();
    await serve({ maxNodes: 16 });
    for (let index = 0; index < 30; index++) put(`f${index}`);
    for (let index = 0; index < 15; index++) await client.lookup(`f${index}`);
    expect((await client.ask(OPCODE.lookup, 1, text("f20"))).errno).toBe(errno.ENFILE);
    const names = (await list(1, 0, 100_000)).names;
    expect(names).toHaveLength(32);
    expect(names.filter(({ node }) => node !== 0)).toHaveLength(15);
    client.send(encodeRequest(OPCODE.batchForget, 0, fields([1], [0], await client.lookup("f3"), 10)));
    expect(await client.lookup("f20")).toBeGreaterThan(1);
  });

  test("ends the connection with what cannot be a request", async () => {
    client.send(Buffer.from("ffffffff0000000000000000", "hex"));
    client.send(Buffer.alloc(100));
    expect(await workspace.ended).toMatchObject({
      code: "SANDBOX_WORKSPACE_PROTOCOL",
      message: "expected a request of 40 to 266240 bytes from the guest, got a length of 4294967295",
    });
  });
});

describe("a workspace that pauses", () => {
  test("is gone on with by another server, with another directory", async () => {
    mkdirSync(join(directory, "d"));
    put("d/a", "one");
    put("gone");
    const d = await client.lookup("d");
    const a = await client.lookup("d/a");
    const gone = await client.lookup("gone");
    const state = JSON.parse(JSON.stringify(await workspace.pause()));
    workspace.close();
    directory = join(outer, "other");
    mkdirSync(join(directory, "d"), { recursive: true });
    put("d/a", "two");
    put("d/new", "new");
    const [guest, host] = streamPair();
    client = new FuseClient(guest);
    workspace = await serveWorkspace(host, { directory, state, onBug: (error) => void bugs.push(error) });
    expect(client.notices[0]?.code).toBe(TELL.resume);
    const stale = client.notices.filter(({ code }) => code === NOTIFY.invalInode);
    expect(stale.map(({ body }) => Number(body.readBigUInt64LE(0))).sort()).toEqual([1, d, a, gone].sort());
    const names = client.notices.filter(({ code }) => code === NOTIFY.invalEntry);
    expect(names.map(({ body }) => body.subarray(16).toString()).sort()).toEqual(["gone\0", "new\0"]);
    expect(await client.read(a)).toBe("two");
    expect(await client.lookup("d/a")).toBe(a);
    expect((await client.ask(OPCODE.getattr, gone, fields([0], [0], 0))).errno).toBe(errno.ESTALE);
    const next = await client.create("e", d);
    expect([d, a, gone]).not.toContain(next);
  });

  test("goes on itself", async () => {
    put("a", "1");
    const a = await client.lookup("a");
    await workspace.pause();
    put("a", "2");
    workspace.resume();
    await expect.poll(() => client.notices.map(({ code }) => code), NO_WAIT).toContain(NOTIFY.invalInode);
    expect(await client.read(a)).toBe("2");
  });

  test("says when the guest does not answer", async () => {
    const [, host] = streamPair();
    using silent = await serveWorkspace(host, { directory });
    await expect(silent.pause({ timeoutMs: 20 })).rejects.toMatchObject({ code: "SANDBOX_WORKSPACE_TIMEOUT" });
  });
});

test("a directory that is none is refused", async () => {
  const [, host] = streamPair();
  await expect(serveWorkspace(host, { directory: join(outer, "none") })).rejects.toMatchObject({
    code: "SANDBOX_WORKSPACE_DIRECTORY",
    message: `expected a directory at ${join(outer, "none")}, got ENOENT`,
  });
  await expect(serveWorkspace(host, { directory, uid: -1 })).rejects.toMatchObject({ code: "SANDBOX_BAD_OPTIONS" });
});

test("hard links of the host are one file", async () => {
  put("a", "1");
  linkSync(join(directory, "a"), join(directory, "b"));
  chmodSync(join(directory, "a"), 0o600);
  expect(await client.lookup("a")).toBe(await client.lookup("b"));
});
