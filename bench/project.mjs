// A project to build over and over: a copy of the example with keys of its own. Downloads and whatever does not change
// come out of the same Nix store.
import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { openNix } from "../packages/nix-gen/dist/index.js";
import { run } from "./measure.mjs";

const ROOT = fileURLToPath(new URL("../", import.meta.url));
const EXAMPLE = join(ROOT, "examples", "particle");
const LEVERET_OS = join(ROOT, "apps", "os-builder", "bin", "leveret-os.js");
const CONFIG = "os.config.ts";
const LOCK = "os.lock.json";
const SYSTEM = "x86_64-linux";

/** The copy, and an image of it that is up to date. */
export class Project {
  constructor(directory, { signal, progress }) {
    this.directory = directory;
    this.lockFile = join(directory, LOCK);
    this.signal = signal;
    this.progress = progress;
    // Store paths of builds that nobody else has any use for.
    this.leftovers = new Set();
  }

  static async create(context) {
    const directory = await context.temporary("particle");
    const project = new Project(directory, context);
    for (const name of [CONFIG, LOCK, "tree"]) {
      await cp(join(EXAMPLE, name), join(directory, name), { recursive: true });
    }
    project.config = await readFile(join(directory, CONFIG), "utf8");
    await project.leveretOs("init");
    await project.image().catch(async (error) => {
      // Mirrors keep one version of a package, and this lock is older than theirs.
      if (!error.message.includes("NIX_GEN_NOT_ON_MIRROR")) throw error;
      await project.leveretOs("lock");
      await project.image();
    });
    return project;
  }

  async leveretOs(verb, ...args) {
    return run(process.execPath, [LEVERET_OS, verb, this.directory, ...args], { signal: this.signal });
  }

  /** Builds the image as a person would. @returns Its document, and how long it took in `milliseconds`. */
  async image() {
    this.progress({ step: "our image", item: "leveret-os image" });
    const { stdout, ms } = await this.leveretOs("image", "--json");
    return { image: JSON.parse(stdout), ms };
  }

  /** Adds a file with content that was never there to the tree of the description. */
  async changeTree() {
    await mkdir(join(this.directory, "tree", "etc"), { recursive: true });
    await writeFile(join(this.directory, "tree", "etc", "bench"), `${unique()}\n`);
  }

  /** Changes what the system is installed with, so that nothing built so far will do, downloads and tools excepted. */
  async changeSystem() {
    const setting = `exclude: ["/usr/share/doc/*", "/usr/share/info/*", "/usr/share/lintian/*", "/usr/share/locale/*", "/usr/share/man/*", "/usr/share/bench-${unique()}"],`;
    const changed = this.config.replace(/^(\s*)packages:/m, `$1${setting}\n$1packages:`);
    if (changed === this.config) throw new Error(`expected a line with packages in ${CONFIG}`);
    await writeFile(join(this.directory, CONFIG), changed);
  }

  /** Notes what the latest build left in the store and no other project shares. */
  async noteLeftovers(...outputs) {
    const nix = await openNix({ env: process.env });
    const flake = join(this.directory, ".leveret", "flake");
    for (const output of outputs) {
      const attribute = `path:${flake}#packages.${SYSTEM}.${output}.outPath`;
      const { stdout } = await run(nix.program, ["eval", "--raw", attribute], { env: nix.env, signal: this.signal });
      this.leftovers.add(stdout.trim());
    }
  }

  /** Removes the project, and from the store what was noted. */
  async remove() {
    await rm(this.directory, { recursive: true, force: true });
    if (this.leftovers.size === 0) return;
    const nix = await openNix({ env: process.env });
    // Paths of the store that somebody has come to use stay.
    await run(nix.program, ["store", "delete", ...this.leftovers], { env: nix.env }).catch(() => {});
  }
}

function unique() {
  return `${Date.now()}-${process.pid}`;
}
