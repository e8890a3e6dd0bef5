import { debian, defineOs } from "@leveret/os-builder";

/** What a sandbox is in: a Debian with the tools that projects ask for first. */
export default defineOs({
  id: "sandbox-guest",
  version: "0.1.0",
  name: "Sandbox",
  source: debian({ suite: "trixie" }),
  packages: [
    "ca-certificates",
    "curl",
    "direnv",
    "file",
    "git",
    "iproute2",
    "jq",
    "less",
    "make",
    "nodejs",
    "openssh-client",
    "patch",
    "procps",
    "python3",
    "ripgrep",
    "unzip",
    "vim-tiny",
    "xz-utils",
  ],
});
