import { debian, defineOs } from "@leveret/os-builder";

export default defineOs({
  id: "particle",
  version: "0.1.0",
  name: "Particle",
  source: debian({ suite: "trixie" }),
  packages: ["ca-certificates", "iproute2", "less", "procps"],
  tree: "tree",
  kernel: {
    arguments: [
      "console=ttyS0",
      "quiet",
      // Debian's list without bpf, which makes systemd load a program at every boot that no unit here has a use for.
      "lsm=landlock,lockdown,yama,integrity,apparmor",
    ],
  },
});
