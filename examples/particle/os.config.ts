import { debian, defineOs } from "@leveret/os-builder";

export default defineOs({
  id: "particle",
  version: "0.1.0",
  name: "Particle",
  source: debian({ suite: "trixie" }),
  packages: ["ca-certificates", "iproute2", "less", "procps"],
  tree: "tree",
  kernel: {
    arguments: ["console=ttyS0", "quiet"],
  },
});
