import { posix } from "node:path";
import { z } from "zod";
import type { ConfigIssue } from "../errors.ts";
import { overlap } from "../internal/paths.ts";
import { reasonOf } from "../internal/reason.ts";
import { IMAGES_DIRECTORY, STATE_DIRECTORY } from "../places.ts";

const PACKAGE = z.string().regex(/^[a-z0-9][a-z0-9+.-]*$/, "expected a Debian package name");
const UNIT = z
  .string()
  .regex(
    /^(?!--)[\w@.:\\-]+\.(service|socket|timer|path|target|mount|automount|swap|slice)$/,
    "expected a unit's name with its suffix",
  );
const MODULE = z.string().regex(/^[a-z0-9_-]+$/i, "expected a kernel module's name");
const ARGUMENT = z
  .string()
  .regex(/^[\x21-\x7e]+$/, "expected one kernel argument: printable ASCII without blanks")
  .refine((text) => !text.includes('"'), "quotes in kernel arguments are not supported");
const RELATIVE_PATH = z
  .string()
  .regex(/^[^\p{Cc}]+$/u, "expected a path")
  .transform((path) => posix.normalize(path).replace(/\/$/, ""))
  .refine((path) => !/^(\.?\.)?(\/|$)/.test(path), "expected a directory inside of the project");
const MIB = z
  .int({ error: ({ code }) => (code === "invalid_type" ? "expected a whole number of MiB" : undefined) })
  .min(1)
  .max(1024 * 1024);

const DEBIAN = z.strictObject({
  kind: z.literal("debian"),
  /** release: `trixie` */
  suite: z.string().regex(/^[a-z][a-z0-9-]*$/, "expected the name of a Debian release, like trixie"),
  /** components of the archive */
  components: z
    .array(z.string().regex(/^[a-z][a-z-]*$/))
    .min(1)
    .default(["main"]),
});

/** Longest `id_version`: it names partitions, and GPT has room for this many characters. */
const MAX_NAME_LENGTH = 36;

/** Arguments that the builder sets itself; two values of one of them would be an accident. */
const OWN_ARGUMENTS = [
  "usrhash",
  "systemd.verity_usr_options",
  "dm_verity.require_signatures",
  "roothash",
  "systemd.verity",
];

/**
 * A description of an operating system, as `os.config.ts` exports it. Everything unknown is a mistake, and all mistakes
 * are reported at once.
 */
const osSchema = z.strictObject({
  /** `IMAGE_ID` of os-release, and the beginning of every artefact's name */
  id: z
    .string()
    .regex(/^[a-z][a-z0-9.-]{0,31}$/, "expected 1 to 32 of a-z, 0-9, dot and dash, beginning with a letter"),
  /** `IMAGE_VERSION` of os-release; compared as in the UAPI group's version format */
  version: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9.~^-]{0,31}$/, "expected a version like 1.2.3, without _ and +"),
  /** name for people; shown by the boot menu */
  name: z
    .string()
    .max(64)
    .regex(/^[^\p{Cc}"\\$`]+$/u, 'expected one line without ", \\, $ and `')
    .optional(),
  /** where packages come from */
  source: DEBIAN,
  /** packages, besides those that every image has */
  packages: z.array(PACKAGE).default([]),
  /** paths that no package may install; a star at the end stands for everything below, licences excepted */
  exclude: z
    .array(
      z
        .string()
        .regex(/^(\/(?!\.\.?(\/|$))[\w.+-]+)+(\/\*)?$/, "expected an absolute path, with or without /* at its end"),
    )
    .default([
      "/usr/share/doc/*",
      "/usr/share/info/*",
      "/usr/share/lintian/*",
      "/usr/share/locale/*",
      "/usr/share/man/*",
    ]),
  /** directory of files that are laid over the packages' files, relative to the description */
  tree: RELATIVE_PATH.optional(),
  kernel: z
    .strictObject({
      /** package with the kernel */
      package: PACKAGE.default("linux-image-cloud-amd64"),
      /** further arguments on its command line */
      arguments: z
        .array(
          ARGUMENT.refine(
            (text) => !OWN_ARGUMENTS.includes(argumentName(text)),
            `set by the builder: ${OWN_ARGUMENTS.join(", ")}`,
          ),
        )
        .default([]),
    })
    .prefault({}),
  initrd: z
    .strictObject({
      /** kernel modules that finding the disk may need, besides those that the way to /usr always takes */
      modules: z.array(MODULE).default(["nvme", "sd_mod", "virtio_blk", "virtio_scsi"]),
    })
    .prefault({}),
  units: z
    .strictObject({
      enable: z.array(UNIT).default([]),
      disable: z.array(UNIT).default([]),
      mask: z.array(UNIT).default([]),
    })
    .prefault({}),
  disk: z
    .strictObject({
      /** EFI system partition; has to hold two versions' kernel images */
      espMiB: MIB.min(33).default(256),
      /** one slot of /usr */
      usrMiB: MIB.default(512),
      /** free space of the image for the root file system, which is made at the first boot and takes all there is */
      rootMiB: MIB.min(64).default(512),
    })
    .prefault({}),
  /** directory of the signing keys, relative to the description */
  keys: RELATIVE_PATH.default("keys"),
});

/** What `defineOs` takes. */
export type OsDescription = z.input<typeof osSchema>;

/** A checked description with all defaults. */
export type OsConfig = z.output<typeof osSchema>;

/**
 * Checks a description. It never throws: a description may be any object at all.
 *
 * @returns The config, or every mistake in the description.
 */
export function checkDescription(value: unknown): { readonly config: OsConfig } | { readonly issues: ConfigIssue[] } {
  const result = parse(value);
  if (typeof result === "string") return { issues: [{ path: "", message: `expected plain values, got: ${result}` }] };
  if (!result.success) return { issues: result.error.issues.flatMap(toIssues) };
  const issues = crossFieldIssues(result.data);
  return issues.length > 0 ? { issues } : { config: result.data };
}

// A getter or a proxy in a description may throw while it is looked at; then the result is what it threw.
function parse(value: unknown): z.ZodSafeParseResult<OsConfig> | string {
  try {
    return osSchema.safeParse(value);
  } catch (error) {
    return reasonOf(error);
  }
}

// The kernel takes a dash in a parameter's name for an underscore.
function argumentName(argument: string): string {
  return (argument.split("=")[0] ?? "").replaceAll("-", "_");
}

function toIssues(issue: z.core.$ZodIssue): ConfigIssue[] {
  // One line for each unknown key, where a person would look for it.
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((key) => ({ path: renderPath([...issue.path, key]), message: "unknown key" }));
  }
  return [{ path: renderPath(issue.path), message: issue.message.replace(/^Invalid input: /, "") }];
}

function crossFieldIssues(config: OsConfig): ConfigIssue[] {
  const issues: ConfigIssue[] = [];
  const name = `${config.id}_${config.version}`;
  if (name.length > MAX_NAME_LENGTH) {
    const message = `expected id_version of at most ${MAX_NAME_LENGTH} characters, got ${name.length}`;
    issues.push({ path: "version", message });
  }
  // What is in the tree comes into the Nix store, which everybody may read.
  const { tree, keys } = config;
  if (tree !== undefined && overlap(keys, tree)) {
    issues.push({ path: "tree", message: `expected keys (${keys}) and tree (${tree}) to lie apart` });
  }
  // What the builder makes it also deletes, and some of it comes into the Nix store.
  for (const own of [STATE_DIRECTORY, IMAGES_DIRECTORY]) {
    for (const [field, path] of Object.entries({ tree, keys })) {
      if (path === undefined || !overlap(path, own)) continue;
      issues.push({ path: field, message: `expected a directory outside of ${own}, which is the builder's` });
    }
  }
  const { enable, disable, mask } = config.units;
  for (const [index, unit] of enable.entries()) {
    if (mask.includes(unit) || disable.includes(unit)) {
      issues.push({ path: `units.enable[${index}]`, message: `${unit} is also to be disabled or masked` });
    }
  }
  return issues;
}

function renderPath(path: readonly PropertyKey[]): string {
  return path.reduce<string>((text, part) => {
    if (typeof part === "number") return `${text}[${part}]`;
    return text === "" ? String(part) : `${text}.${String(part)}`;
  }, "");
}
