import { describe, expect, test } from "vitest";
import {
  assertStoreName,
  block,
  type DerivationOptions,
  derivation,
  fixedOutput,
  MAX_STORE_NAME_LENGTH,
  nix,
  ref,
  renderNix,
  str,
  toSri,
  toStoreName,
} from "../src/index.ts";
import { refusal } from "./helpers/expect.ts";

const EMPTY_HEX = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const EMPTY_SRI = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
const base: DerivationOptions = { name: "x", system: "x86_64-linux", builder: "/bin/sh" };

describe("derivation", () => {
  test("prints a call that needs no nixpkgs", () => {
    const expr = derivation({
      comment: "says hello",
      name: "hello",
      system: "x86_64-linux",
      builder: str`${ref("busybox")}/bin/sh`,
      args: ["-c", block("set -e\necho $text > $out\n")],
      env: { text: "a ${b}", dep: ref("dep") },
      outputs: ["out", "doc"],
      passAsFile: ["text"],
      requiredSystemFeatures: ["kvm"],
      preferLocalBuild: true,
      allowSubstitutes: false,
    });
    expect(renderNix(expr)).toMatchInlineSnapshot(`
      "builtins.derivation {
        # says hello
        name = "hello";
        system = "x86_64-linux";
        builder = "\${busybox}/bin/sh";
        args = [
          "-c"
          ''
            set -e
            echo $text > $out
          ''
        ];
        outputs = [ "out" "doc" ];
        passAsFile = [ "text" ];
        requiredSystemFeatures = [ "kvm" ];
        preferLocalBuild = true;
        allowSubstitutes = false;
        text = "a \\\${b}";
        dep = dep;
      }
      "
    `);
  });

  test("prints a known hash in one form, whatever form it was given in", () => {
    const printed = renderNix(derivation({ ...base, outputHash: EMPTY_HEX, outputHashMode: "recursive" }));
    expect(printed).toContain(`outputHash = "${EMPTY_SRI}";`);
    expect(printed).toContain('outputHashMode = "recursive";');
    expect(renderNix(derivation({ ...base, outputHash: EMPTY_SRI }))).toContain('outputHashMode = "flat";');
  });

  test.each<[string, Partial<DerivationOptions>, string | undefined]>([
    ["a reserved variable", { env: { outputHash: "x" } }, "env.outputHash"],
    ["a variable that holds an output", { env: { out: "x" } }, "env.out"],
    ["a variable that Nix overwrites", { env: { TMPDIR: "/x" } }, "env.TMPDIR"],
    ["an impossible variable", { env: { "a=b": "x" } }, "env.a=b"],
    ["a number as a variable", { env: { a: 1 as never } }, "env.a"],
    ["a variable too long for Linux", { env: { a: "x".repeat(131_072 - 2) } }, "env.a"],
    ["an argument too long for Linux", { args: [str`${ref("a")}${"x".repeat(131_072)}`] }, "args[0]"],
    ["an unknown option", { buildInputs: [] } as never, ""],
    ["no output", { outputs: [] }, "outputs"],
    ["the same output twice", { outputs: ["out", "out"] }, "outputs[1]"],
    ["a reserved output", { outputs: ["drv"] }, "outputs[0]"],
    ["two outputs with a hash", { outputs: ["out", "doc"], outputHash: EMPTY_HEX }, "outputs"],
    ["a mode without a hash", { outputHashMode: "flat" }, "outputHashMode"],
    ["impure variables without a hash", { impureEnvVars: ["HOME"] }, "impureEnvVars"],
    ["a file of an unknown variable", { passAsFile: ["b"] }, "passAsFile"],
    ["a builder that is no text", { builder: 5 as never }, "builder"],
  ])("refuses %s", (_what, options, path) => {
    refusal(() => derivation({ ...base, ...options }), "NIX_GEN_BAD_OPTIONS", path === "" ? undefined : path);
  });

  test("reports every mistake of shape at once", () => {
    const error = refusal(
      () => derivation({ name: 1, system: 2, builder: "x" } as never),
      "NIX_GEN_BAD_OPTIONS",
      "name",
    );
    expect(error.message).toMatch(/name[\s\S]*system/);
  });

  test("takes the longest variable that Linux takes, and longer ones as files", () => {
    derivation({ ...base, env: { a: "x".repeat(131_072 - 3) } });
    derivation({ ...base, env: { a: "x".repeat(200_000) }, passAsFile: ["a"] });
  });

  test("refuses hashes that are none", () => {
    for (const outputHash of ["", "abc", EMPTY_HEX.slice(1), `${EMPTY_SRI}=`, `md5-${EMPTY_SRI}`]) {
      refusal(() => derivation({ ...base, outputHash }), "NIX_GEN_BAD_HASH");
    }
  });
});

describe("fixedOutput", () => {
  test("prints a fetch that Nix does itself", () => {
    const expr = fixedOutput({ name: "a.deb", url: str`${ref("mirror")}/pool/a.deb`, hash: EMPTY_HEX });
    expect(renderNix(expr)).toMatchInlineSnapshot(`
      "builtins.derivation {
        name = "a.deb";
        system = "builtin";
        builder = "builtin:fetchurl";
        url = "\${mirror}/pool/a.deb";
        outputHash = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        outputHashAlgo = "sha256";
        outputHashMode = "flat";
        preferLocalBuild = true;
        impureEnvVars = [ "http_proxy" "https_proxy" "ftp_proxy" "all_proxy" "no_proxy" ];
      }
      "
    `);
  });

  test("takes a hash of the archive for programs and archives", () => {
    const options = { name: "a", url: "https://example.org/a", hash: EMPTY_HEX };
    expect(renderNix(fixedOutput({ ...options, executable: true }))).toMatch(/"recursive";\s+executable = true;/);
    expect(renderNix(fixedOutput({ ...options, unpack: true }))).toMatch(/"recursive";\s+unpack = true;/);
  });

  test("refuses other references, names and hashes", () => {
    const options = { name: "a", url: "https://example.org/a", hash: EMPTY_HEX };
    for (const url of ["", "a", "mirror://gnu/a", "javascript:1", "https://"]) {
      refusal(() => fixedOutput({ ...options, url }), "NIX_GEN_BAD_OPTIONS", "url");
    }
    refusal(() => fixedOutput({ ...options, url: 5 as never }), "NIX_GEN_BAD_OPTIONS", "url");
    refusal(() => fixedOutput({ ...options, name: "a:b" }), "NIX_GEN_BAD_STORE_NAME", "name");
    refusal(() => fixedOutput({ ...options, hash: "sha1-x" }), "NIX_GEN_BAD_HASH");
    refusal(() => fixedOutput({ ...options, hash: nix("x") as never }), "NIX_GEN_BAD_OPTIONS", "hash");
  });
});

describe("store names", () => {
  test.each(["a", "libc6_2.36-9+deb12u4_amd64.deb", "A?=", "_", "x".repeat(MAX_STORE_NAME_LENGTH)])(
    "takes %s",
    (name) => {
      assertStoreName(name);
      expect(toStoreName(name)).toBe(name);
    },
  );

  test.each(["", ".a", "a b", "a/b", "é", "a:b", "a~b", "a\0", "a.drv", "x".repeat(MAX_STORE_NAME_LENGTH + 1)])(
    "refuses %j, and makes a name of it",
    (name) => {
      refusal(() => assertStoreName(name), "NIX_GEN_BAD_STORE_NAME");
      assertStoreName(toStoreName(name));
    },
  );

  test("replaces only what has to be replaced", () => {
    expect(toStoreName("gcc_4%3a12.2.0~rc1_amd64.deb")).toBe("gcc_4-3a12.2.0-rc1_amd64.deb");
    expect(toStoreName("...😀.drv.drv")).toBe("-");
    expect(toStoreName("..")).toBe("unnamed");
  });
});

test("toSri takes hexadecimal digits, its own form and bytes", () => {
  const bytes = Uint8Array.from(Buffer.from(EMPTY_HEX, "hex"));
  for (const form of [EMPTY_HEX, EMPTY_HEX.toUpperCase(), EMPTY_SRI, bytes]) expect(toSri(form)).toBe(EMPTY_SRI);
  refusal(() => toSri(EMPTY_SRI.replace("FU=", "FV=")), "NIX_GEN_BAD_HASH");
  refusal(() => toSri(bytes.subarray(1)), "NIX_GEN_BAD_HASH");
});

test("refuses a variable that zod would drop", () => {
  refusal(() => derivation({ ...base, env: JSON.parse('{"__proto__": "x"}') }), "NIX_GEN_BAD_OPTIONS", "env");
});
