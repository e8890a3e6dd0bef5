import { describe, expect, test } from "vitest";
import { renderOsFlake } from "../../src/nix/flake.ts";
import { configOf, exampleLock, TINY } from "../support/system.ts";

describe("renderOsFlake", () => {
  test.each(["1.0~rc1", "1.0^git1", "1"])(
    "names what is built of version %s as the Nix store allows",
    async (version) => {
      const mirror = { main: "http://127.0.0.1:9/debian", security: "http://127.0.0.1:9/security" };
      const text = renderOsFlake(configOf({ ...TINY, version }), await exampleLock(), mirror, false);
      const names = [...text.matchAll(/name = "([^"]*)"/g)].map(([, name]) => name);
      expect(names).toContain(`tiny_${version.replace(/[~^]/, "-")}-usr`);
      for (const name of names) expect(name).toMatch(/^[\w+.?=-]+$/);
    },
  );
});
