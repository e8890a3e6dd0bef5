import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import tar from "tar-stream";

/** One entry of a toy package. */
export interface ToyEntry extends Omit<Partial<tar.Header>, "name"> {
  readonly name: string;
  readonly content?: string | Uint8Array;
}

/** A toy package. */
export interface ToyPackage {
  readonly name: string;
  readonly version?: string;
  /** further lines of its control file: `Depends: other` */
  readonly fields?: readonly string[];
  readonly entries?: readonly ToyEntry[];
  readonly scripts?: Readonly<Record<string, string>>;
  /** what becomes of its file before its hash is taken */
  readonly damage?: (deb: Uint8Array) => Uint8Array;
  /** whether it is in the index only */
  readonly phantom?: boolean;
}

/** A Debian archive of toy packages in a directory, signed by a key of its own. */
export interface ToyArchive {
  readonly directory: string;
  readonly keyring: string;
  /** bytes of a package's file */
  deb(name: string): Uint8Array;
  /** adds packages and signs their index */
  publish(packages: readonly ToyPackage[], suite?: string): Promise<void>;
  close(): void;
}

/** Programs that a toy archive is made with. */
export const ARCHIVE_TOOLS = ["gpg", "apt-get"] as const;

const DATE = "Sun, 01 Feb 2026 00:00:00 UTC";

/** Writes a toy archive into a temporary directory. Its suite is `sid` unless named, as that has no updates beside it. */
export async function makeArchive(packages: readonly ToyPackage[], suite = "sid"): Promise<ToyArchive> {
  const directory = mkdtempSync(join(tmpdir(), "nix-gen-archive-"));
  // A socket's path must be short, and gpg's agent puts one into its directory.
  const gnupg = join(directory, "g");
  mkdirSync(gnupg, { mode: 0o700 });
  const keyring = join(directory, "keyring.gpg");
  gpg(gnupg, ["--quick-generate-key", "Toy archive <toy@example.org>", "rsa2048", "sign", "never"]);
  writeFileSync(keyring, gpg(gnupg, ["--export"]));
  const archive: ToyArchive = {
    directory,
    keyring,
    deb: (name) => new Uint8Array(readFileSync(join(directory, poolPath(name, "1")))),
    publish: (list, name = suite) => publish(directory, gnupg, list, name),
    close() {
      spawnSync("gpgconf", ["--homedir", gnupg, "--kill", "all"]);
      rmSync(directory, { recursive: true, force: true });
    },
  };
  await archive.publish(packages);
  return archive;
}

async function publish(directory: string, gnupg: string, list: readonly ToyPackage[], suite: string): Promise<void> {
  const stanzas: string[] = [];
  for (const toy of list) {
    const path = poolPath(toy.name, toy.version ?? "1");
    if (toy.phantom === true) {
      stanzas.push(`${controlOf(toy)}Filename: ${path}\nSize: 1\nSHA256: ${sha256(Buffer.of(0))}\n`);
      continue;
    }
    const control = controlOf(toy);
    const whole = await makeDeb(toy, control);
    const deb = toy.damage?.(whole) ?? whole;
    mkdirSync(join(directory, path, ".."), { recursive: true });
    writeFileSync(join(directory, path), deb);
    stanzas.push(`${control}Filename: ${path}\nSize: ${deb.length}\nSHA256: ${sha256(deb)}\n`);
  }
  const dist = join(directory, "dists", suite);
  const index = "main/binary-amd64/Packages";
  const text = stanzas.join("\n");
  mkdirSync(join(dist, index, ".."), { recursive: true });
  writeFileSync(join(dist, index), text);
  const release = [
    "Origin: Toy",
    `Suite: ${suite}`,
    `Codename: ${suite}`,
    `Date: ${DATE}`,
    "Architectures: amd64",
    "Components: main",
    "SHA256:",
    ` ${sha256(Buffer.from(text))} ${Buffer.byteLength(text)} ${index}`,
    "",
  ].join("\n");
  writeFileSync(join(dist, "InRelease"), gpg(gnupg, ["--clearsign"], release));
}

function poolPath(name: string, version: string): string {
  return `pool/main/t/${name}/${name}_${version.replace(/^\d+:/, "")}_all.deb`;
}

function controlOf({ name, version = "1", fields = [] }: ToyPackage): string {
  const lines = [
    `Package: ${name}`,
    `Version: ${version}`,
    "Architecture: all",
    "Maintainer: Toy <toy@example.org>",
    "Description: toy",
    ...fields,
  ];
  return `${lines.join("\n")}\n`;
}

/** A `.deb` of a toy package, written without any tool. */
export async function makeDeb(toy: ToyPackage, control = controlOf(toy)): Promise<Uint8Array> {
  const scripts = Object.entries(toy.scripts ?? {}).map(([name, content]) => ({ name, content, mode: 0o755 }));
  return makeAr({
    "debian-binary": Buffer.from("2.0\n"),
    "control.tar.gz": gzipSync(await pack([{ name: "./control", content: control }, ...scripts])),
    "data.tar.gz": gzipSync(await pack(toy.entries ?? [])),
  });
}

/** An ar archive of these members, which is the outer form of a `.deb`. */
export function makeAr(members: Readonly<Record<string, Uint8Array>>): Uint8Array {
  const parts: Uint8Array[] = [Buffer.from("!<arch>\n")];
  for (const [name, content] of Object.entries(members)) {
    const header = `${name.padEnd(16)}${"0".padEnd(12)}${"0".padEnd(6)}${"0".padEnd(6)}${"100644".padEnd(8)}`;
    parts.push(Buffer.from(`${header}${String(content.length).padEnd(10)}\`\n`), content);
    if (content.length % 2 === 1) parts.push(Buffer.from("\n"));
  }
  return new Uint8Array(Buffer.concat(parts));
}

/** A tar archive of these entries and the directories above them. */
export async function pack(entries: readonly ToyEntry[]): Promise<Uint8Array> {
  const archive = tar.pack();
  // dpkg wants every directory above a file.
  const known = new Set<string>();
  const add = (header: ToyEntry): void => {
    const { content = "", ...rest } = header;
    const body = Buffer.from(content as Uint8Array);
    archive.entry({ uid: 0, gid: 0, mtime: new Date(0), ...rest }, body);
  };
  add({ name: "./", type: "directory", mode: 0o755 });
  for (const entry of entries) {
    const folders = entry.name.replace(/^\.\//, "").split("/").slice(0, -1);
    for (let depth = 1; depth <= folders.length; depth++) {
      const folder = `./${folders.slice(0, depth).join("/")}/`;
      if (known.has(folder) || folder === entry.name) continue;
      known.add(folder);
      add({ name: folder, type: "directory", mode: 0o755 });
    }
    if (entry.type === "directory") known.add(entry.name);
    add({ type: "file", mode: 0o644, ...entry });
  }
  archive.finalize();
  const chunks: Uint8Array[] = [];
  for await (const chunk of archive) chunks.push(chunk as Uint8Array);
  return Buffer.concat(chunks);
}

/** The beginning of a tar archive, up to the content of its only file. */
export async function tarHeader(name: string, size: number): Promise<Uint8Array> {
  const archive = tar.pack();
  archive.entry({ name, size });
  const [chunk] = await once(archive, "data");
  return chunk as Uint8Array;
}

/** Serves a directory on loopback; `answer` may take a request over. */
export async function serve(
  directory: string,
  answer: (request: IncomingMessage, response: ServerResponse) => boolean = () => false,
): Promise<{ readonly url: string; readonly requests: string[]; close(): void }> {
  const requests: string[] = [];
  const server: Server = createServer((request, response) => {
    const path = decodeURIComponent(request.url ?? "/");
    requests.push(path);
    if (answer(request, response)) return;
    try {
      response.end(readFileSync(join(directory, path)));
    } catch {
      response.statusCode = 404;
      response.end();
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** A package with the static busybox of this machine where Debian's has it. */
export function toyBusybox(): ToyPackage {
  const content = new Uint8Array(readFileSync("/bin/busybox"));
  return { name: "busybox-static", entries: [{ name: "./usr/bin/busybox", mode: 0o755, content }] };
}

function gpg(home: string, args: readonly string[], input?: string): Buffer {
  const all = ["--homedir", home, "--batch", "--yes", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""];
  const { status, stdout, stderr } = spawnSync("gpg", [...all, ...args], { input });
  if (status !== 0) throw new Error(`gpg ${args.join(" ")} ended with ${status}: ${stderr}`);
  return stdout;
}

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
