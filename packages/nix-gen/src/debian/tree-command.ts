import { chmod, mkdir, open, readdir, readlink, realpath, rename, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join, relative } from "node:path";
import { NixGenError } from "../errors.ts";
import { besideOf, fileError } from "../internal/files.ts";
import { quote } from "../internal/text.ts";
import { type DebianArchitecture, dynamicLoader, multiarchTriplet } from "./architecture.ts";
import { assertProgramScripts } from "./occupied.ts";

/** A tree of unpacked packages, as far as starting its programs needs to know it. */
export interface RunnableTree {
  /** real path of the directory with `usr` */
  readonly directory: string;
  /** `"amd64"` when not given */
  readonly architecture?: DebianArchitecture;
}

/** How to start a program of a tree. */
export interface TreeCommand {
  /** program and arguments; the program's own arguments come after them */
  readonly argv: readonly string[];
  /** variables to be set, besides the caller's own */
  readonly env: Readonly<Record<string, string>>;
}

const PROGRAM_DIRECTORIES = ["usr/bin", "usr/sbin"];
const MAX_LINKS = 40;
const MAX_INTERPRETERS = 4;
// Linux reads no more of a script's first line.
const MAX_SHEBANG_BYTES = 256;

/**
 * How to start a program of a tree of another Debian release: through that tree's own dynamic loader, with that tree's
 * libraries, so that this machine's are not touched. Scripts are started with the tree's interpreter where it has one;
 * Python finds the tree's modules. Programs that such a program starts itself are this machine's.
 *
 * @param tree - The tree, such as {@link makeDebianTree} returns.
 * @param program - A name in `usr/bin` or `usr/sbin`, or a path in the tree: `usr/lib/systemd/systemd-measure`.
 * @returns What to start.
 * @throws {NixGenError} `NIX_GEN_NO_PROGRAM` when the tree has no such program, or not what it is linked with.
 * @see ld.so(8)
 * @example
 * const { argv: [file = "", ...args], env } = await treeCommand(tree, "ukify");
 * spawn(file, [...args, "--version"], { env: { ...process.env, ...env } });
 */
export async function treeCommand(tree: RunnableTree, program: string): Promise<TreeCommand> {
  const libraries = await libraryPath(tree);
  const candidates = program.includes("/") ? [program] : PROGRAM_DIRECTORIES.map((path) => `${path}/${program}`);
  for (const candidate of candidates) {
    const path = await resolveInTree(tree.directory, candidate);
    if (path !== undefined) return command({ tree, libraries, link: join(tree.directory, candidate) }, path, 0);
  }
  throw noProgram(`expected ${quote(program)} in the tree ${tree.directory}, found no such program`);
}

/**
 * Writes one executable file per program of a tree, which starts it as {@link treeCommand} says.
 *
 * @param tree - The tree.
 * @param directory - Where the files go; replaced as a whole when it holds such files only.
 * @returns Names of the programs, sorted.
 * @throws {NixGenError} `NIX_GEN_OCCUPIED` when anything else is in the directory, `NIX_GEN_IO`, `NIX_GEN_DISK_FULL`.
 */
export async function writeTreePrograms(tree: RunnableTree, directory: string): Promise<string[]> {
  const libraries = await libraryPath(tree);
  const beside = besideOf(directory);
  const names = new Set<string>();
  await assertProgramScripts(directory, tree.directory);
  try {
    await mkdir(beside, { recursive: true });
    for (const folder of PROGRAM_DIRECTORIES) {
      for (const name of await readdir(join(tree.directory, folder)).catch(() => [])) {
        const path = names.has(name) ? undefined : await resolveInTree(tree.directory, `${folder}/${name}`);
        // Left out: links to alternatives that only a maintainer script would have made, and programs without a loader.
        const start =
          path &&
          (await command({ tree, libraries, link: join(tree.directory, folder, name) }, path, 0).catch(
            () => undefined,
          ));
        if (start === undefined || start === "") continue;
        await writeFile(join(beside, name), renderScript(start));
        await chmod(join(beside, name), 0o755);
        names.add(name);
      }
    }
    await rm(directory, { recursive: true, force: true });
    await rename(beside, directory);
  } catch (cause) {
    await rm(beside, { recursive: true, force: true });
    throw fileError(directory, cause);
  }
  return [...names].sort();
}

interface Start {
  readonly tree: RunnableTree;
  readonly libraries: string;
  /** the program as it was asked for; some programs go by its name */
  readonly link: string;
}

async function command(start: Start, path: string, interpreters: number): Promise<TreeCommand> {
  const { tree, libraries, link } = start;
  const head = await readHead(path);
  if (head.startsWith("#!")) return scriptCommand(start, path, head, interpreters);
  if (!head.startsWith("\x7fELF")) throw noProgram(`expected a program or a script, got ${path}`);
  if (!(await hasInterpreter(path))) {
    // An absolute link means something on this machine; then the program can't be called by its other name.
    return { argv: [(await realpath(link).catch(() => "")) === path ? link : path], env: {} };
  }
  const loader = join(tree.directory, dynamicLoader(tree.architecture ?? "amd64"));
  const argv0 = basename(path) === basename(link) ? [] : ["--argv0", basename(link)];
  if ((await resolveInTree(tree.directory, relative(tree.directory, loader))) === undefined) {
    throw noProgram(`expected the dynamic loader ${loader} for ${path}, found none (package libc6)`);
  }
  return { argv: [loader, ...argv0, "--library-path", libraries, path], env: {} };
}

async function scriptCommand(start: Start, path: string, head: string, interpreters: number): Promise<TreeCommand> {
  const { tree } = start;
  const [line = ""] = head.slice("#!".length).split("\n");
  const words = line.trim().split(/\s+/);
  // `env` looks the interpreter up on the PATH, which is this machine's.
  if (basename(words[0] ?? "") === "env") words.splice(0, words[1] === "-S" ? 2 : 1);
  const [interpreter = "", ...options] = words;
  if (interpreter === "" || interpreters >= MAX_INTERPRETERS) throw noProgram(`expected an interpreter for ${path}`);
  const candidates = interpreter.includes("/")
    ? [interpreter]
    : PROGRAM_DIRECTORIES.map((dir) => `${dir}/${interpreter}`);
  for (const candidate of candidates) {
    const found = await resolveInTree(tree.directory, candidate);
    if (found === undefined) continue;
    const link = join(tree.directory, candidate);
    const { argv, env } = await command({ ...start, link }, found, interpreters + 1);
    return { argv: [...argv, ...options, path], env: { ...env, ...interpreterEnvironment(tree, basename(link)) } };
  }
  return { argv: [interpreter, ...options, path], env: {} };
}

function interpreterEnvironment({ directory }: RunnableTree, interpreter: string): Record<string, string> {
  if (!/^python3/.test(interpreter)) return {};
  return {
    PYTHONHOME: join(directory, "usr"),
    PYTHONPATH: join(directory, "usr/lib/python3/dist-packages"),
    // The tree is in the store, which must not change even where its owner could write to it.
    PYTHONDONTWRITEBYTECODE: "1",
  };
}

// Programs name the directory of their private libraries by an absolute path, which means this machine's.
async function libraryPath({ directory, architecture = "amd64" }: RunnableTree): Promise<string> {
  const libraries = join(directory, "usr/lib", multiarchTriplet(architecture));
  const entries = await readdir(libraries, { withFileTypes: true }).catch(() => []);
  const own: string[] = [];
  for (const entry of entries) {
    if (!entry.isDirectory()) continue;
    const files = await readdir(join(libraries, entry.name));
    if (files.some((name) => /^lib.*\.so/.test(name))) own.push(join(libraries, entry.name));
  }
  return [libraries, join(directory, "usr/lib"), ...own.sort()].join(":");
}

/** Real path of `path` in a tree, whose absolute links mean the tree itself; undefined when there is nothing. */
async function resolveInTree(root: string, path: string): Promise<string | undefined> {
  const ahead = path.split("/").reverse();
  let at = root;
  for (let links = 0; ahead.length > 0; ) {
    const part = ahead.pop() ?? "";
    if (part === "" || part === ".") continue;
    if (part === "..") {
      if (at !== root) at = dirname(at);
      continue;
    }
    const target = await readlink(join(at, part)).catch((error) => errorCode(error));
    if (target === undefined) return undefined;
    if (target === NOT_A_LINK) {
      at = join(at, part);
      continue;
    }
    links += 1;
    if (links > MAX_LINKS) return undefined;
    if (target.startsWith("/")) at = root;
    ahead.push(...target.split("/").reverse());
  }
  return at;
}

const NOT_A_LINK = "";

function errorCode(error: unknown): "" | undefined {
  return error instanceof Error && "code" in error && error.code === "EINVAL" ? NOT_A_LINK : undefined;
}

async function readHead(path: string): Promise<string> {
  const bytes = await readAt(path, 0, MAX_SHEBANG_BYTES);
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}

// ELF-64, as in the System V ABI: a program that wants a dynamic loader has a header of type PT_INTERP.
async function hasInterpreter(path: string): Promise<boolean> {
  const PT_INTERP = 3;
  const header = await readAt(path, 0, 64);
  if (header.byteLength < 64) throw noProgram(`expected a whole program, got ${header.byteLength} bytes in ${path}`);
  const view = new DataView(header.buffer, header.byteOffset, header.byteLength);
  const offset = Number(view.getBigUint64(0x20, true));
  const size = view.getUint16(0x36, true);
  const count = view.getUint16(0x38, true);
  if (!Number.isSafeInteger(offset)) throw noProgram(`expected a whole program in ${path}`);
  const table = await readAt(path, offset, size * count);
  const headers = new DataView(table.buffer, table.byteOffset, table.byteLength);
  for (let at = 0; size >= 4 && at + 4 <= table.byteLength; at += size) {
    if (headers.getUint32(at, true) === PT_INTERP) return true;
  }
  return false;
}

async function readAt(path: string, offset: number, length: number): Promise<Uint8Array> {
  const file = await open(path, "r");
  try {
    const { buffer, bytesRead } = await file.read(new Uint8Array(length), 0, length, offset);
    return buffer.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}

function renderScript({ argv, env }: TreeCommand): string {
  const shell = (text: string): string => (/^[\w/.:=+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
  const variables = Object.entries(env).map(([name, value]) => `export ${name}=${shell(value)}\n`);
  return `#!/bin/sh\n${variables.join("")}exec ${argv.map(shell).join(" ")} "$@"\n`;
}

function noProgram(message: string): NixGenError {
  return new NixGenError("NIX_GEN_NO_PROGRAM", message);
}
