import { expect, test } from "vitest";
import { fixedOutputStorePath } from "../../src/index.ts";
import { refusal } from "../helpers/expect.ts";

const SHA256 = "2fd7b04f1b7caa29c4e683f5216e6af354a41e3cdcf6e75394d7cda680f9ab82";

// As Nix 2.8 computed it for `builtin:fetchurl`.
test("is the path that Nix gives a file with that name and hash", () => {
  const path = "/nix/store/55bh3126s2r5pnxzbbchq27ylz3v3frj-bash_5.2.37-2+b10.deb";
  expect(fixedOutputStorePath("bash_5.2.37-2+b10.deb", SHA256)).toBe(path);
  const sri = `sha256-${Buffer.from(SHA256, "hex").toString("base64")}`;
  expect(fixedOutputStorePath("bash_5.2.37-2+b10.deb", sri)).toBe(path);
});

test("refuses what is no name and what is no hash", () => {
  refusal(() => fixedOutputStorePath("a b", SHA256), "NIX_GEN_BAD_STORE_NAME");
  refusal(() => fixedOutputStorePath("a", "abc"), "NIX_GEN_BAD_HASH");
});
