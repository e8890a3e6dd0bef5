import { access, constants } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { findDebianMirror, openNix } from "@leveret/nix-gen";
import { findFirmware, findQemu, probeAccelerator } from "@leveret/qemu-harness";
import tools from "../tools.json" with { type: "json" };

/** One thing that building or booting needs. */
export interface Finding {
  readonly name: string;
  readonly ok: boolean;
  /** what was found, or what is wrong */
  readonly found: string;
  /** command or action that mends it; absent when nothing is wrong */
  readonly fix?: string;
}

/** Looks at everything that building and booting images needs, without changing anything. */
export async function examineMachine(env: Readonly<Record<string, string | undefined>>): Promise<Finding[]> {
  return [
    await attempt("Node", async () => process.version, "install Node 20.19 or newer"),
    await attempt(
      "Nix",
      async () => `${(await openNix({ env })).version}, store ${(await openNix({ env })).store}`,
      install("nix"),
    ),
    await attempt("sandbox", userNamespaces, "sysctl kernel.unprivileged_userns_clone=1"),
    await attempt("apt", () => onPath("apt-get", env), install("apt-get")),
    await attempt("archive keys", () => readable(fileOf("debian-archive-keyring")), install("debian-archive-keyring")),
    await attempt("Debian mirror", async () => (await findDebianMirror({ env })).main, "set LEVERET_DEBIAN_MIRROR"),
    await attempt(
      "QEMU",
      async () => Object.values((await findQemu({ env })).version).join("."),
      install("qemu-system-x86_64"),
    ),
    await attempt("firmware", async () => (await findFirmware({ secureBoot: true, env })).codePath, install("ovmf")),
    await attempt("swtpm", () => onPath("swtpm", env), install("swtpm")),
    await attempt("setpriv", () => onPath("setpriv", env), install("setpriv")),
    await attempt("accelerator", async () => describeAccelerator(env), "emulation needs nothing: check QEMU"),
  ];
}

async function attempt(name: string, look: () => Promise<string>, fix: string): Promise<Finding> {
  try {
    return { name, ok: true, found: await look() };
  } catch (error) {
    const hint = error instanceof Error && "hint" in error && typeof error.hint === "string" ? error.hint : undefined;
    const found = error instanceof Error ? (error.message.split("\n")[0] ?? "") : String(error);
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

async function onPath(program: string, env: Readonly<Record<string, string | undefined>>): Promise<string> {
  for (const directory of (env.PATH ?? "").split(delimiter)) {
    const path = join(directory, program);
    if (
      await access(path, constants.X_OK).then(
        () => true,
        () => false,
      )
    )
      return path;
  }
  throw new Error(`no ${program} on the PATH`);
}

async function userNamespaces(): Promise<string> {
  await access("/proc/self/ns/user");
  return "user namespaces are there";
}

async function describeAccelerator(env: Readonly<Record<string, string | undefined>>): Promise<string> {
  const { kind, reason } = await probeAccelerator({ env });
  return `${kind}: ${reason}`;
}
