import { spawnSync } from "node:child_process";
import { expect, test } from "vitest";
import { readDebFile } from "../../src/index.ts";
import { makeAr, pack, tarHeader } from "../helpers/archive.ts";
import { asyncRefusal } from "../helpers/refusal.ts";
import { describeWith } from "../helpers/tools.ts";

function xzDeb(archive: Uint8Array): Uint8Array {
  const { status, stdout } = spawnSync("xz", ["-1"], { input: archive, maxBuffer: 1 << 24 });
  expect(status).toBe(0);
  return makeAr({ "debian-binary": Buffer.from("2.0\n"), "data.tar.xz": stdout });
}

describeWith("packages that xz has compressed", ["xz"], () => {
  test("are read, or refused in every truncation", async () => {
    const deb = xzDeb(await pack([{ name: "./usr/bin/toy", content: "the program\n" }]));
    expect(Buffer.from(await readDebFile(deb, "usr/bin/toy")).toString()).toBe("the program\n");
    for (let length = 0; length < deb.length - 1; length++) {
      expect((await asyncRefusal(readDebFile(deb.subarray(0, length), "usr/bin/toy"))).code).toBe("NIX_GEN_BAD_DEB");
    }
  });

  test("are refused when they unpack to more than the limit, of which nothing is kept in memory", async () => {
    const deb = xzDeb(Buffer.concat([await tarHeader("./usr/share/zeros", 2 ** 30), new Uint8Array(300 << 20)]));
    const before = process.memoryUsage().rss;
    const error = await asyncRefusal(readDebFile(deb, "usr/bin/toy"));
    expect([error.code, error.message]).toEqual([
      "NIX_GEN_BAD_DEB",
      expect.stringContaining("expected an archive of at most"),
    ]);
    expect(process.memoryUsage().rss - before).toBeLessThan(128 << 20);
  });
});
