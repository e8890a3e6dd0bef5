// A unified kernel image of 100 MB: signed beside one SHA-256 pass and sbsign, assembled and signed beside ukify.
// Environment: LEVERET_TRIXIE_TREE is a tree with ukify, see scripts/oracle-trees.mjs, which makes one otherwise.
import { createHash, randomFillSync } from "node:crypto";
import { closeSync, openSync, readFileSync, readSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { assembleUki, fileSource, generateKeys, writePe } from "../packages/uki-sign/dist/index.js";
import { interleave, row, run, timed } from "./measure.mjs";

const MB = 1_000_000;
const SIZE_MB = 100;
const ROUNDS = 5;
const CLI = fileURLToPath(new URL("../packages/uki-sign/dist/cli.js", import.meta.url));

export async function uki({ temporary, signal, progress, rounds = ROUNDS }) {
  const directory = await temporary("uki");
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

  const sides = {
    sha256: () => timed(async () => hashFile(path("unsigned.efi"))),
    sign: () =>
      timed(async () => {
        const image = await fileSource(path("unsigned.efi"));
        try {
          await writePe(path("signed.efi"), image, { sign, signal });
        } finally {
          await image.close();
        }
      }),
    sbsign: async () => {
      const keys = ["--key", path("keys/db.key"), "--cert", path("keys/db.crt")];
      return (await run("sbsign", [...keys, "--output", path("theirs.efi"), path("unsigned.efi")], { signal })).ms;
    },
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
    row("  peak memory of uki-sign sign", { unit: "bytes", ours: memory, target: 64 * MB }),
    row(`assemble and sign ${SIZE_MB} MB, beside ukify`, {
      unit: "ms",
      ours: values.build,
      theirs: values.ukify,
      target: 0.2,
    }),
  ];
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
  const script = `import { main, processIo } from ${JSON.stringify(CLI)};
    process.exitCode = await main(${JSON.stringify(argv)}, { ...processIo(), stdout: { write() {} } });
    process.stdout.write(String(process.resourceUsage().maxRSS * 1024));`;
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
