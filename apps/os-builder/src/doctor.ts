import { execFile } from "node:child_process";
import { access, constants } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";
import { findDebianMirror, openNix } from "@leveret/nix-gen";
import { findFirmware, findQemu, probeAccelerator } from "@leveret/qemu-harness";
import packageJson from "../package.json" with { type: "json" };
import tools from "../tools.json" with { type: "json" };
import { OsBuilderError } from "./errors.ts";
import { firstLine, reasonOf } from "./internal/reason.ts";

/** One thing that building or booting needs. */
export interface Finding {
  readonly name: string;
  readonly ok: boolean;
  /** what was found, or what is wrong */
  readonly found: string;
  /** command or action that mends it; absent when nothing is wrong */
  readonly fix?: string;
}

type Env = Readonly<Record<string, string | undefined>>;

/**
 * Looks at everything that building and booting images needs, without changing anything.
 *
 * @param env - `PATH`, and the variables that Nix, mirror, QEMU and firmware may be named by.
 * @returns One finding each, also for what is there.
 */
export async function examineMachine(env: Env): Promise<Finding[]> {
  return [
    await attempt("Node", async () => supportedNode(process.versions.node), "install Node 20.19 or newer"),
    await attempt("Nix", () => describeNix(env), install("nix")),
    await attempt(
      "sandbox",
      () => trySandbox(env),
      "sysctl user.max_user_namespaces=15000, and where the kernel has it kernel.unprivileged_userns_clone=1",
    ),
    await attempt("apt", () => onPath("apt-get", env), install("apt-get")),
    await attempt("archive keys", () => readable(fileOf("debian-archive-keyring")), install("debian-archive-keyring")),
    await attempt("Debian mirror", async () => (await findDebianMirror({ env })).main, "set LEVERET_DEBIAN_MIRROR"),
    await attempt("flock", () => onPath("flock", env), install("flock")),
    await attempt(
      "QEMU",
      async () => Object.values((await findQemu({ env })).version).join("."),
      install("qemu-system-x86_64"),
    ),
    await attempt("firmware", async () => (await findFirmware({ secureBoot: true, env })).codePath, install("ovmf")),
    await attempt("swtpm", () => onPath("swtpm", env), install("swtpm")),
    await attempt("setpriv", () => onPath("setpriv", env), install("setpriv")),
    await attempt("accelerator", () => describeAccelerator(env), "see QEMU"),
  ];
}

async function attempt(name: string, look: () => Promise<string>, fix: string): Promise<Finding> {
  try {
    return { name, ok: true, found: await look() };
  } catch (error) {
    const hint = error instanceof Error && "hint" in error && typeof error.hint === "string" ? error.hint : undefined;
    const found = firstLine(error);
    return { name, ok: false, found, fix: fix.startsWith("apt-get") ? fix : (hint ?? fix) };
  }
}

function install(name: string): string {
  const tool = tools.find((entry) => entry.program === name || entry.package === name);
  if (tool === undefined) throw new Error(`bug: tools.json does not list ${name}`);
  return `apt-get install ${tool.package}`;
}

function fileOf(packageName: string): string {
  return tools.find((entry) => entry.package === packageName)?.file ?? "";
}

async function readable(path: string): Promise<string> {
  await access(path, constants.R_OK);
  return path;
}

async function onPath(program: string, env: Env): Promise<string> {
  for (const directory of (env.PATH ?? "").split(delimiter)) {
    const path = join(directory, program);
    const found = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return path;
  }
  throw new OsBuilderError("OS_MISSING_TOOLS", `no ${program} on the PATH`, { hint: install(program) });
}

/** @throws {Error} When that version is older than what `package.json` asks for. */
export function supportedNode(version: string): string {
  const numbers = (text: string): number[] => (text.match(/\d+/g) ?? []).map(Number);
  const [major = 0, minor = 0] = numbers(version);
  const [neededMajor = 0, neededMinor = 0] = numbers(packageJson.engines.node);
  if (major > neededMajor || (major === neededMajor && minor >= neededMinor)) return version;
  throw new Error(`${version}, and ${packageJson.engines.node} is needed`);
}

async function describeNix(env: Env): Promise<string> {
  const { version, store } = await openNix({ env });
  return `${version}, store ${store}`;
}

async function trySandbox(env: Env): Promise<string> {
  const unshare = await onPath("unshare", env);
  const argv = ["--user", "--map-root-user", "--mount", "--", unshare, "--version"];
  await promisify(execFile)(unshare, argv).catch((cause: { readonly stderr?: string }) => {
    throw new Error(cause.stderr?.trim() || reasonOf(cause), { cause });
  });
  return "user and mount namespaces work";
}

async function describeAccelerator(env: Env): Promise<string> {
  const { kind, reason } = await probeAccelerator({ env });
  return `${kind}: ${reason.split("\n", 1)[0]}`;
}
