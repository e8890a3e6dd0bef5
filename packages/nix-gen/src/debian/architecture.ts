/** Debian's architectures that are supported here. */
export type DebianArchitecture = "amd64" | "arm64";

const SYSTEMS = { amd64: "x86_64-linux", arm64: "aarch64-linux" } as const;
const LOADERS = { amd64: "usr/lib64/ld-linux-x86-64.so.2", arm64: "usr/lib/ld-linux-aarch64.so.1" } as const;
const TRIPLETS = { amd64: "x86_64-linux-gnu", arm64: "aarch64-linux-gnu" } as const;

/** Nix's name of an architecture. */
export function nixSystem(architecture: DebianArchitecture): string {
  return SYSTEMS[architecture];
}

/** Path of the dynamic loader in a tree, as the ABI has it, below the merged /usr. */
export function dynamicLoader(architecture: DebianArchitecture): string {
  return LOADERS[architecture];
}

/** Name of the directory with an architecture's libraries. */
export function multiarchTriplet(architecture: DebianArchitecture): string {
  return TRIPLETS[architecture];
}
