// A unified kernel image of 100 MB: signed beside one SHA-256 pass and sbsign, assembled and signed beside ukify. Files are
// in memory where the machine has a tmpfs: this package flushes what it writes and the others do not, and there that costs
// nothing. On the disk the others' files are flushed too.
// Environment: LEVERET_TRIXIE_TREE is a tree with ukify, see scripts/oracle-trees.mjs, which makes one otherwise.
import { createHash, randomFillSync } from "node:crypto";
import { closeSync, openSync, readFileSync, readSync } from "node:fs";
import { copyFile, mkdtemp, open, rm, statfs } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { assembleUki, fileSource, generateKeys, writePe } from "../packages/uki-sign/dist/index.js";
import { interleave, row, run, timed } from "./measure.mjs";

const MB = 1_000_000;
const SIZE_MB = 100;
const ROUNDS = 5;
const TMPFS = "/dev/shm";
const BIN = fileURLToPath(new URL("../packages/uki-sign/bin/uki-sign.js", import.meta.url));
const CLI = fileURLToPath(new URL("../packages/uki-sign/dist/cli.js", import.meta.url));

export async function uki({ temporary, signal, progress, rounds = ROUNDS }) {
  const onDisk = await temporary("uki");
  const directory = await memoryDirectory();
  try {
    return await measureAll({ directory: directory ?? onDisk, onDisk, signal, progress, rounds });
  } finally {
    if (directory !== undefined) await rm(directory, { recursive: true, force: true });
  }
}

/** A directory in memory; undefined where there is none with enough room. */
async function memoryDirectory() {
  try {
    const { bavail, bsize } = await statfs(TMPFS);
    return bavail * bsize < 12 * SIZE_MB * MB ? undefined : await mkdtemp(join(TMPFS, "leveret-bench-"));
  } catch {
    return undefined;
  }
}

async function measureAll({ directory, onDisk, signal, progress, rounds }) {
  const path = (name) => join(directory, name);
  const tree = process.env.LEVERET_TRIXIE_TREE ?? (await oracleTree());
  progress({ step: "uki", item: `${SIZE_MB} MB of random initrd` });
  await writeRandom(path("initrd"), SIZE_MB * MB);
  const stubPath = join(tree, "usr/lib/systemd/boot/efi/linuxx64.efi.stub");
  // A kernel that is any PE image, so that all of the size is the initrd.
  const stub = new Uint8Array(readFileSync(stubPath));
  const { signers, certificates } = await generateKeys(path("keys"), { signal });
  const sign = { signer: signers.db, certificate: certificates.db };
  const texts = { cmdline: "quiet", uname: "6.12", osRelease: "ID=hare\n" };

  const assemble = async (output, options) => {
    const initrd = await fileSource(path("initrd"));
    try {
      await writePe(output, assembleUki({ stub, linux: stub, initrd, ...texts }), { ...options, signal });
    } finally {
      await initrd.close();
    }
  };
  await assemble(path("unsigned.efi"));
  if (directory !== onDisk) await copyFile(path("unsigned.efi"), join(onDisk, "unsigned.efi"));
  await flush(join(onDisk, "unsigned.efi"));

  const signFile = (folder) =>
    timed(async () => {
      const image = await fileSource(join(folder, "unsigned.efi"));
      try {
        await writePe(join(folder, "signed.efi"), image, { sign, signal });
      } finally {
        await image.close();
      }
    });
  const sbsignFile = async (folder) => {
    const keys = ["--key", path("keys/db.key"), "--cert", path("keys/db.crt")];
    const files = ["--output", join(folder, "theirs.efi"), join(folder, "unsigned.efi")];
    return (await run("sbsign", [...keys, ...files], { signal })).ms;
  };

  const sides = {
    sha256: () => timed(async () => hashFile(path("unsigned.efi"))),
    sign: () => signFile(directory),
    sbsign: () => sbsignFile(directory),
    command: async () => {
      const argv = [BIN, "sign", "--keys", path("keys"), path("unsigned.efi"), "-o", path("signed.efi")];
      return (await run(process.execPath, argv, { signal })).ms;
    },
    signOnDisk: () => signFile(onDisk),
    sbsignOnDisk: () =>
      timed(async () => {
        await sbsignFile(onDisk);
        await flush(join(onDisk, "theirs.efi"));
      }),
    build: () => timed(() => assemble(path("built.efi"), { sign })),
    ukify: async () => {
      const flags = [`--stub=${stubPath}`, `--linux=${stubPath}`, `--initrd=${path("initrd")}`, "--cmdline=quiet"];
      const more = ["--uname=6.12", "--os-release=ID=hare", `--output=${path("ukify.efi")}`];
      const keys = [`--secureboot-private-key=${path("keys/db.key")}`, "--signtool=sbsign", "--no-sign-kernel"];
      const all = ["build", ...flags, ...more, ...keys, `--secureboot-certificate=${path("keys/db.crt")}`];
      return (await runUkify(tree, all, signal)).ms;
    },
  };
  const memory = [];
  const shown = (name, side) => () => {
    progress({ step: "uki", item: name });
    return side();
  };
  const values = await interleave(rounds, {
    ...Object.fromEntries(Object.entries(sides).map(([name, side]) => [name, shown(name, side)])),
    memory: async () => {
      const argv = ["sign", "--keys", path("keys"), path("unsigned.efi"), "-o", path("signed.efi")];
      memory.push(await peakMemory(argv, signal));
      return 0;
    },
  });
  const what = `sign ${SIZE_MB} MB`;
  return [
    row(`${what}, beside one SHA-256 pass`, { unit: "ms", ours: values.sign, theirs: values.sha256, target: 1.3 }),
    row(`${what}, beside sbsign`, { unit: "ms", ours: values.sign, theirs: values.sbsign, target: 0.333 }),
    row("  the command, beside sbsign", { unit: "ms", ours: values.command, theirs: values.sbsign, target: 1 }),
    row("  on the disk, both flushed", {
      unit: "ms",
      ours: values.signOnDisk,
      theirs: values.sbsignOnDisk,
      target: 1,
    }),
    row("  peak memory of uki-sign sign", { unit: "bytes", ours: memory, target: 64 * MB }),
    row(`assemble and sign ${SIZE_MB} MB, beside ukify`, {
      unit: "ms",
      ours: values.build,
      theirs: values.ukify,
      target: 0.2,
    }),
  ];
}

async function flush(path) {
  const file = await open(path, "r+");
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

function hashFile(path) {
  const file = openSync(path);
  try {
    const buffer = new Uint8Array(1 << 20);
    const hash = createHash("sha256");
    for (let size = readSync(file, buffer); size > 0; size = readSync(file, buffer))
      hash.update(buffer.subarray(0, size));
    return hash.digest();
  } finally {
    closeSync(file);
  }
}

/** The largest resident size of a process that runs the command, in bytes; Node alone takes 40 MB of it. */
async function peakMemory(argv, signal) {
  // What a process inherits, the size of this bench, counts in its resource usage, but not here.
  const script = `import { readFileSync } from "node:fs";
    import { main, processIo } from ${JSON.stringify(CLI)};
    process.exitCode = await main(${JSON.stringify(argv)}, { ...processIo(), stdout: { write() {} } });
    const [, kibibytes] = /VmHWM:\\s*(\\d+)/.exec(readFileSync("/proc/self/status", "utf8"));
    process.stdout.write(String(kibibytes * 1024));`;
  const { stdout } = await run(process.execPath, ["--input-type=module", "-e", script], { signal });
  return Number(stdout);
}

async function oracleTree() {
  const { makeOracleTrees } = await import("../scripts/oracle-trees.mjs");
  return (await makeOracleTrees()).LEVERET_TRIXIE_TREE;
}

function runUkify(tree, argv, signal) {
  const libraries = join(tree, "usr/lib/x86_64-linux-gnu");
  const env = {
    ...process.env,
    PYTHONHOME: join(tree, "usr"),
    PYTHONPATH: join(tree, "usr/lib/python3/dist-packages"),
    PYTHONDONTWRITEBYTECODE: "1",
  };
  const python = ["--library-path", libraries, join(tree, "usr/bin/python3"), join(tree, "usr/bin/ukify")];
  return run(join(tree, "usr/lib64/ld-linux-x86-64.so.2"), [...python, ...argv], { signal, env });
}

async function writeRandom(path, bytes) {
  const file = await open(path, "w");
  try {
    const block = Buffer.alloc(MB);
    for (let done = 0; done < bytes; done += block.length) await file.write(randomFillSync(block));
  } finally {
    await file.close();
  }
}
