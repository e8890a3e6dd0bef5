import { z } from "zod";
import { derivation } from "../derivation.ts";
import { type Binding, bind } from "../expression/bindings.ts";
import { ref } from "../expression/syntax.ts";
import { concatText, path, source, str } from "../expression/text.ts";
import type { NixExpr } from "../internal/node.ts";
import { checkOptions, zExpr, zRecord, zText } from "../internal/options.ts";
import { type DebianArchitecture, nixSystem } from "./architecture.ts";
import { providedStatus } from "./resolve.ts";

/** Where {@link stageDebianBuilders} puts the first program and the scripts, relative to `flake.nix`. */
export const BUILDERS_LAYOUT = { directory: "nix-gen", bootstrap: "bootstrap", program: "busybox" } as const;

/** A tree of unpacked packages: see {@link DebianBuilders.tree}. */
export interface DebianTreeOptions {
  /** name, and the end of the store path */
  readonly name: string;
  /** files of packages, as from {@link DebianPackages.set} */
  readonly packages: readonly NixExpr[];
}

/** A build inside of a tree: see {@link DebianBuilders.build}. */
export interface DebianBuildOptions {
  /** name, and the end of the store path */
  readonly name: string;
  /** tree of unpacked packages, in which bash and coreutils have to be; with `owners` also fakeroot */
  readonly tools: NixExpr;
  /** bash script that writes to `$out`: a path in a string */
  readonly script: string | NixExpr;
  /** environment of the script */
  readonly env?: Readonly<Record<string, string | NixExpr>>;
  /**
   * `"remembered"`: owners, modes, devices and extended attributes that the script asks for are kept as long as it runs,
   * so that it can write them into an archive or an image. `"ignored"` when not given
   */
  readonly owners?: "remembered" | "ignored";
}

/** A configured system: see {@link DebianBuilders.system}. */
export interface DebianSystemOptions {
  /** name, and the end of the store path */
  readonly name: string;
  /** as for {@link DebianBuildOptions}; dpkg, fakeroot and tar have to be in it, of the release that is installed */
  readonly tools: NixExpr;
  /** files of the essential packages, which are installed first */
  readonly essential: readonly NixExpr[];
  /** files of all other packages, in the order in which apt would unpack them; those in `essential` are left out */
  readonly packages: readonly NixExpr[];
  /** names that dpkg is told are there, as in the set's `provided` when it was locked */
  readonly provided?: readonly string[];
  /** paths that no package may install; a star at the end stands for everything below but licences */
  readonly exclude?: readonly string[];
  /** time stamp of everything that maintainer scripts make, in seconds since 1970; see {@link lockEpochSeconds} */
  readonly epochSeconds: number;
}

/** Builds that run Debian's own programs inside of Nix's sandbox, as an ordinary user. */
export interface DebianBuilders {
  /** for the flake's `bindings` */
  readonly bindings: readonly Binding[];
  /** the first program, a static busybox, for derivations that need nothing else */
  readonly busybox: NixExpr;
  /** Packages unpacked into one directory, without any of their scripts run: programs to build with. */
  tree(options: DebianTreeOptions): NixExpr;
  /**
   * A script run by bash in a private user namespace whose file system is `tools`, so that unmodified programs find
   * themselves at home; it sees itself as root.
   */
  build(options: DebianBuildOptions): NixExpr;
  /**
   * Packages installed by dpkg itself, maintainer scripts included, as `system.tar`: users and groups, alternatives,
   * caches, and every owner, mode, capability and extended attribute are in it. The same packages give the same bytes.
   */
  system(options: DebianSystemOptions): NixExpr;
}

const EXPRESSIONS = z.array(zExpr).readonly();
const OPTIONS = z.strictObject({
  architecture: z.enum(["amd64", "arm64"]).default("amd64"),
  binding: z.string().default("busybox"),
});
const TREE = z.strictObject({ name: z.string(), packages: EXPRESSIONS });
const BUILD = z.strictObject({
  name: z.string(),
  tools: zExpr,
  script: zText,
  env: zRecord(zText).default({}),
  owners: z.enum(["remembered", "ignored"]).default("ignored"),
});
const SYSTEM = z.strictObject({
  name: z.string(),
  tools: zExpr,
  essential: EXPRESSIONS,
  packages: EXPRESSIONS,
  provided: z.array(z.string()).readonly().default([]),
  exclude: z
    .array(
      z
        .string()
        .regex(
          /^\/(?!(.*\/)?\.\.(\/|$))[^\n*?[\]\\]+(\/\*)?$/,
          "expected an absolute path, possibly with /* at its end",
        ),
    )
    .readonly()
    .default([]),
  epochSeconds: z.int().nonnegative(),
});

/**
 * Builders for a flake whose directory {@link stageDebianBuilders} has prepared.
 *
 * @param options - `architecture` of the packages, `"amd64"` when not given; `binding` is the name of the variable that
 *   holds the first program, `"busybox"` when not given.
 * @returns Functions that give derivations, and the binding that these refer to.
 * @throws {NixGenError} `NIX_GEN_BAD_OPTIONS`, here and in each of the functions.
 * @example
 * const packages = debianPackages(lock, mirror);
 * const { bindings, tree, build } = debianBuilders();
 * const tools = tree({ name: "tools", packages: packages.set("tools") });
 * const image = build({ name: "image", tools, script: str`${path("./image.sh")}` });
 */
export function debianBuilders(options: { architecture?: DebianArchitecture; binding?: string } = {}): DebianBuilders {
  const { architecture, binding } = checkOptions(OPTIONS, options, "debianBuilders");
  const system = nixSystem(architecture);
  const { directory, bootstrap, program } = BUILDERS_LAYOUT;
  const busybox = ref(binding);
  const script = (name: string): NixExpr => str`${path(`./${directory}/${name}`)}`;
  const args = (name: string): (string | NixExpr)[] => ["sh", "-euf", script(name)];
  const enter = (checked: z.output<typeof BUILD>, passAsFile: readonly string[] = []): NixExpr => {
    const { name, tools, owners, env } = checked;
    return derivation({
      name,
      system,
      builder: busybox,
      args: args("enter.sh"),
      env: { busybox, tools, owners, script: checked.script, ...env },
      passAsFile,
    });
  };
  return {
    // Its own name decides which of its applets it is, so it lies in a directory.
    bindings: [bind(binding, str`${source(`./${directory}/${bootstrap}`)}/${program}`)],
    busybox,
    tree(treeOptions) {
      const { name, packages } = checkOptions(TREE, treeOptions, "tree");
      const env = { busybox, packages: listOf(packages) };
      return derivation({ name, system, builder: busybox, args: args("tree.sh"), env, passAsFile: ["packages"] });
    },
    build: (buildOptions) => enter(checkOptions(BUILD, buildOptions, "build")),
    system(systemOptions) {
      const checked = checkOptions(SYSTEM, systemOptions, "system");
      const { name, tools, essential, packages, provided, exclude, epochSeconds } = checked;
      const env = {
        essential: listOf(essential),
        packages: listOf(packages),
        provided: providedStatus(provided, architecture),
        exclude: exclude.map((pattern) => `${pattern}\n`).join(""),
        epoch: `${epochSeconds}`,
      };
      const build = { name, tools, script: script("system.sh"), env, owners: "remembered" as const };
      return enter(build, ["essential", "packages"]);
    },
  };
}

function listOf(packages: readonly NixExpr[]): NixExpr {
  return concatText(packages.flatMap((file, index) => (index === 0 ? [file] : [" ", file])));
}
