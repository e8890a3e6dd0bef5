import { defineConfig } from "vitest/config";

/** What `expect.poll` waits for ends much sooner; its own limit of a second is too little on a busy machine. */
const poll = { timeout: 20_000 };

// `unit` is pure and quick; `e2e` runs the real QEMU, Nix, firmware and foreign tools, one file at a time, because
// emulated machines on two cores slow each other down.
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "unit",
          include: ["{packages,apps,examples}/*/test/**/*.test.ts"],
          exclude: ["**/*.e2e.test.ts", "**/node_modules/**"],
          testTimeout: 60_000,
          // Some make keys, which takes as long as it takes.
          hookTimeout: 60_000,
          expect: { poll },
        },
      },
      {
        test: {
          name: "e2e",
          include: ["{packages,apps,examples}/*/test/**/*.e2e.test.ts", "fuzz/*.e2e.test.mjs"],
          exclude: ["**/node_modules/**"],
          // After the unit tests: emulated machines have no processor to share.
          sequence: { groupOrder: 1 },
          testTimeout: 300_000,
          hookTimeout: 900_000,
          expect: { poll },
          fileParallelism: false,
        },
      },
    ],
  },
});
