// What @leveret/qemu-harness reads that others wrote: descriptions of machines, what QEMU says, manifests of snapshots.
import { createHash } from "node:crypto";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { duplexPair } from "node:stream";
import { setImmediate } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import { isMainThread } from "node:worker_threads";
import { encodeFrame, FrameReader, numberAt, REPLY } from "../../packages/qemu-harness/dist/frames.js";
import {
  commandLine,
  planMachine,
  QemuError,
  QmpClient,
  readSnapshot,
  resolveMachine,
} from "../../packages/qemu-harness/dist/index.js";

const code = new URL("../../packages/qemu-harness/dist/", import.meta.url);
const isExpected = (error) => error instanceof QemuError;
const encode = (text) => new TextEncoder().encode(text);
const SEEDS = 12;
const LINE_FEED = 10;

export const targets = [
  {
    name: "qemu-harness description",
    code,
    isExpected,
    seeds: changes,
    run: describe,
  },
  {
    name: "qemu-harness agent",
    code,
    isExpected,
    seeds: messages,
    run: readMessages,
  },
  {
    name: "qemu-harness qmp",
    code,
    isExpected,
    seeds: async () => [encode(CONVERSATION), encode(`${GREETING}${CAPABILITIES}`)],
    run: converse,
  },
  {
    name: "qemu-harness snapshot",
    code,
    isExpected,
    seeds: changes,
    run: readManifest,
  },
];

async function messages() {
  const hello = encodeFrame(0, REPLY.hello, encode("\u0001\0\0\0"));
  return [hello, Buffer.concat([hello, encodeFrame(1, REPLY.output, encode("text")), encodeFrame(1, REPLY.ended)])];
}

/** Messages are the same however they come, and none is longer than any may be. */
function readMessages(bytes) {
  const whole = framesIn([bytes]);
  const pieces = framesIn(Array.from(bytes, (_, at) => bytes.subarray(at, at + 1)));
  if (!isDeepStrictEqual(pieces, whole)) throw new Error("expected the same messages");
}

function framesIn(chunks) {
  const reader = new FrameReader();
  const found = [];
  for (const chunk of chunks) {
    for (const { stream, kind, payload } of reader.push(chunk)) {
      found.push([stream, kind, numberAt(payload, 0), payload.length]);
    }
  }
  return found;
}

const SECRET = "correct horse battery staple";
const FIRMWARE = { codePath: "/code.fd", variablesPath: "/variables.fd" };
const MACHINES = [
  { boot: { type: "kernel", kernelPath: "vmlinuz" } },
  {
    machine: "microvm",
    boot: { type: "linux", kernelPath: "vmlinuz", initrdPath: "initrd", commandLine: "console=ttyS0", fast: true },
    consoles: [{ name: "serial" }, { name: "report", type: "port" }, { name: "log", type: "virtio" }],
    agent: true,
    forkable: true,
  },
  {
    name: "server",
    boot: { type: "uefi", firmware: FIRMWARE, secureBoot: true, variables: { path: "variables.fd" } },
    disks: [
      { path: "os.raw", serial: "a" },
      { path: "b.qcow2", format: "qcow2", access: "read-only" },
    ],
    cds: [{ path: "install.iso" }],
    tpm: {},
    networks: [
      { type: "user", forwards: [{ hostPort: 2222, guestPort: 22 }] },
      { type: "private", name: "lan", mac: "52:54:00:12:34:56" },
    ],
    graphics: { width: 800, height: 600 },
    smbiosStrings: ["io.systemd.stub.kernel-cmdline-extra=quiet"],
    credentials: { passphrase: SECRET },
    fwCfg: [
      { name: "opt/a", value: "1" },
      { name: "opt/b", path: "b" },
    ],
  },
  { machine: "pc", boot: { type: "bios" }, disks: [{ type: "device", name: "data" }], extraArgs: ["-S"] },
];

/** What has to be refused, or quoted with care. */
const VALUES = [
  undefined,
  null,
  true,
  false,
  0,
  -1,
  1.5,
  2 ** 53,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  1n,
  "",
  "a,b=c,,id=d",
  "\0",
  "\ud800",
  "x\ny",
  "/dev/fd/3",
  'it\'s "$HOME" \\ `id`',
  "é".repeat(40),
  "x".repeat(70_000),
  [],
  {},
  [[]],
  { type: "uefi" },
  { path: "a,b" },
  new Uint8Array(3),
  () => "",
  Object.create(null),
];
const NAMES = [
  "path",
  "type",
  "name",
  "__proto__",
  "constructor",
  "toString",
  "secureBoot",
  "access",
  "\0",
  "0",
  "a:b",
];

/** Inputs that say what is changed where, more and more of it. */
async function changes() {
  return Array.from({ length: SEEDS }, (_, seed) =>
    Uint8Array.from({ length: 1 + 2 * seed }, (__, at) => seed + at * (seed % 5)),
  );
}

/** One of several values that are right, changed as the bytes say. */
function changed(values, bytes) {
  let at = 1;
  const next = (count) => (bytes[at++] ?? 0) % count;
  const holder = { root: structuredClone(values[(bytes[0] ?? 0) % values.length]) };
  while (at < bytes.length) change(holder, next);
  return holder.root;
}

/** Checks a description, and what is made of it. */
async function describe(bytes) {
  const resolved = resolveMachine(changed(MACHINES, bytes));
  if (!isDeepStrictEqual(resolveMachine(resolved), resolved))
    throw new Error("expected defaults that stay as they are");
  const qemu = { path: "/qemu", version: { major: 7, minor: 2, micro: 0 }, versionText: "7.2.0" };
  const { argv } = await planMachine(resolved, { qemu, accelerator: "tcg", env: {} });
  for (const argument of [...argv, commandLine(qemu.path, argv)]) {
    if (typeof argument !== "string" || argument.includes("\0")) throw new Error(`expected text, got ${argument}`);
  }
  if (argv.some((argument) => argument.includes(SECRET))) throw new Error("expected no credential among the arguments");
}

/** Goes down from the root by some steps, and sets, removes or adds what is there. */
function change(root, next) {
  let target = root;
  let key = "root";
  for (let depth = next(5); depth > 0; depth -= 1) {
    const inner = target[key];
    if (typeof inner !== "object" || inner === null || inner instanceof Uint8Array) break;
    const keys = Object.keys(inner);
    target = inner;
    key = keys.length === 0 ? "path" : keys[next(keys.length)];
  }
  const value = VALUES[next(VALUES.length)];
  const own =
    typeof value === "object" && value !== null && !(value instanceof Uint8Array) ? structuredClone(value) : value;
  switch (next(4)) {
    case 0:
      delete target[key];
      break;
    case 1: {
      // As JSON.parse would: an own property, whatever its name is.
      const name = NAMES[next(NAMES.length)];
      Object.defineProperty(target, name, { value: own, enumerable: true, configurable: true, writable: true });
      break;
    }
    default:
      target[key] = own;
  }
}

const GREETING =
  '{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}, "package": ""}, "capabilities": ["oob"]}}\r\n';
const CAPABILITIES = '{"return": {}, "id": 1}\r\n';
const CONVERSATION = [
  GREETING,
  '{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "RESUME"}\r\n',
  CAPABILITIES,
  '{"return": {}, "id": 2}\r\n{"return": {"running": true, "status": "running"}, "id": 3}\r\n',
  '{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}\r\n',
].join("");

/** Plays a QEMU that says the bytes, a line whenever the client has had the time to answer the one before, and ends. */
async function converse(bytes) {
  const [ours, theirs] = duplexPair();
  theirs.resume();
  const connecting = QmpClient.connect(ours, { timeoutMs: 5000 });
  const asking = connecting.then(async (client) => {
    const shutdown = client.once("SHUTDOWN");
    const answers = await Promise.allSettled([client.execute("stop"), client.execute("query-status"), shutdown]);
    for (const answer of answers) if (answer.status === "rejected") throw answer.reason;
  });
  asking.catch(() => {});
  for (let at = 0; at < bytes.length; ) {
    const end = bytes.indexOf(LINE_FEED, at) + 1 || bytes.length;
    theirs.write(bytes.subarray(at, end));
    at = end;
    await setImmediate();
    await setImmediate();
  }
  theirs.end();
  await asking;
}

// Decoders run in threads of their own, which are ended without notice: the main one tidies up.
const directory = join(tmpdir(), `fuzz-qemu-harness-${process.pid}`);
mkdirSync(directory, { recursive: true, mode: 0o700 });
if (isMainThread) process.on("exit", () => rmSync(directory, { recursive: true, force: true }));

const PART = { sizeBytes: 8192, runs: [[0, 4096]], sha256: "0".repeat(64) };
const MANIFESTS = MACHINES.map((description) => ({
  kind: "qemu-harness.snapshot",
  version: 1,
  createdAt: "2026-11-22T20:00:00.000Z",
  accelerator: "tcg",
  description,
  ingredients: { "qemu.version": "7.2.0" },
  firstStream: 3,
  memory: PART,
  state: PART,
  disks: [PART, null],
}));

/** Reads a manifest that was changed by somebody who also made its digest fit. */
async function readManifest(bytes) {
  const json = JSON.stringify(changed(MANIFESTS, bytes), (_, value) =>
    typeof value === "bigint" ? `${value}` : value,
  );
  const digest = createHash("sha256").update(`${json}`).digest("hex");
  writeFileSync(join(directory, "snapshot.json"), `${digest}\n${json}\n`);
  const { sizeBytes, createdAt } = await readSnapshot(directory);
  if (!Number.isSafeInteger(sizeBytes) || Number.isNaN(createdAt.getTime()))
    throw new Error("expected a size and a time");
}
