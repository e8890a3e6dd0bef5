import { describe, expect, test } from "vitest";
import {
  builtin,
  call,
  comment,
  type FlakeInputs,
  type FlakeOptions,
  flake,
  nix,
  ref,
  renderFlake,
  str,
} from "../../src/index.ts";
import { refusal } from "../helpers/expect.ts";

const url = "github:owner/repo/v1";

function withInputs(inputs: FlakeInputs): FlakeOptions {
  return { inputs, outputs: {} };
}

test("renderFlake prints description, inputs, settings and outputs in that order", () => {
  const made = flake({
    outputs: {
      others: { lib: { answer: 42 } },
      formatter: { "x86_64-linux": ref("fmt") },
      apps: { "x86_64-linux": { default: { program: str`${ref("hello")}/bin/hello` } } },
      packages: { "x86_64-linux": { default: comment("the only one", ref("hello")) }, "aarch64-linux": {} },
    },
    bindings: { hello: ref("nixpkgs", "hello"), fmt: ref("self", "x") },
    nixConfig: { substituters: ["https://example.org"], "max-jobs": 4, "accept-flake-config": true },
    inputs: {
      nixpkgs: { url, inputs: { lib: { follows: "lib" }, gone: { follows: "" } } },
      lib: { url: "path:./lib", flake: false },
      same: { follows: "nixpkgs/lib" },
    },
    description: 'a "flake" of ${things}',
    comment: "Generated; edit the description instead.",
  });
  expect(renderFlake(made)).toMatchInlineSnapshot(`
    "# Generated; edit the description instead.
    {
      description = "a \\"flake\\" of \\\${things}";
      inputs = {
        nixpkgs.url = "github:owner/repo/v1";
        nixpkgs.inputs.lib.follows = "lib";
        nixpkgs.inputs.gone.follows = "";
        lib.url = "path:./lib";
        lib.flake = false;
        same.follows = "nixpkgs/lib";
      };
      nixConfig = {
        substituters = [ "https://example.org" ];
        max-jobs = 4;
        accept-flake-config = true;
      };
      outputs =
        { self, nixpkgs, lib, same }:
        let
          hello = nixpkgs.hello;
          fmt = self.x;
        in
        {
          # the only one
          packages.x86_64-linux.default = hello;
          packages.aarch64-linux = { };
          apps.x86_64-linux = {
            default = {
              type = "app";
              program = "\${hello}/bin/hello";
            };
          };
          formatter.x86_64-linux = fmt;
          lib = { answer = 42; };
        };
    }
    "
  `);
});

test("a flake without anything is still a flake", () => {
  expect(renderFlake(flake({ outputs: {} }))).toBe("{ outputs = { self }: { }; }\n");
});

describe("options", () => {
  test.each<[string, unknown, string | undefined]>([
    ["no outputs", {}, "outputs"],
    ["an unknown key", { outputs: {}, output: {} }, undefined],
    ["an expression as description", { outputs: {}, description: nix("x") }, "description"],
    ["an expression as an input", { outputs: {}, inputs: { a: { url: nix("x") } } }, "inputs.a.url"],
    ["a computed setting", { outputs: {}, nixConfig: { a: nix(1) } }, "nixConfig.a"],
    ["an unknown output kind", { outputs: { package: {} } }, "outputs"],
    [
      "an app without a program",
      { outputs: { apps: { "x86_64-linux": { a: {} } } } },
      "outputs.apps.x86_64-linux.a.program",
    ],
    ["a system that is none", { outputs: { packages: { default: {} } } }, "outputs"],
    ["an unknown target", { outputs: {}, target: "2.7" }, "target"],
    ["bindings that are an expression", { outputs: {}, bindings: nix({}) }, "bindings"],
  ])("refuses %s", (_what, options, path) => {
    refusal(() => flake(options as FlakeOptions), "NIX_GEN_BAD_OPTIONS", path);
  });

  test("refuses what the target lacks, wherever it is", () => {
    const options = (target: "2.8" | "2.18" | "2.26"): FlakeOptions => ({
      target,
      outputs: { others: { lib: { x: [call(builtin("convertHash"), {})], y: call(builtin("readFileType"), "/x") } } },
    });
    expect(refusal(() => flake(options("2.18")), "NIX_GEN_BAD_OPTIONS").message).toMatch(/2\.18.*convertHash.*2\.19/);
    refusal(() => flake(options("2.8")), "NIX_GEN_BAD_OPTIONS");
    flake(options("2.26"));
  });

  test("renderFlake takes only what flake made", () => {
    expect(() => renderFlake({} as never)).toThrow(TypeError);
  });
});

describe("inputs", () => {
  test.each<[string, FlakeInputs, string]>([
    ["neither url nor follows", { a: {} }, "inputs.a"],
    ["a name for the registry", { a: { url: "nixpkgs" } }, "inputs.a.url"],
    ["a reference by registry", { a: { url: "flake:nixpkgs" } }, "inputs.a.url"],
    ["a bare path", { a: { url: "./x" } }, "inputs.a.url"],
    ["an empty reference", { a: { url: "github:" } }, "inputs.a.url"],
  ])("refuses %s", (_what, inputs, path) => {
    refusal(() => flake(withInputs(inputs)), "NIX_GEN_BAD_OPTIONS", path);
  });

  test.each(["a b", "", "1a", "true", "a.b", "a'"])("refuses the name %j", (name) => {
    refusal(() => flake(withInputs({ [name]: { url } })), "NIX_GEN_BAD_IDENTIFIER", `inputs.${name}`);
  });

  test("refuses an input called self", () => {
    refusal(() => flake(withInputs({ self: { url } })), "NIX_GEN_BAD_OPTIONS");
  });

  test.each<[string, FlakeInputs]>([
    ["an input that isn't there", { a: { follows: "b" } }],
    ["a nested end that isn't there", { a: { url, inputs: { b: { follows: "c" } } } }],
    ["itself", { a: { follows: "a" } }],
    ["itself by way of another", { a: { follows: "b" }, b: { follows: "c" }, c: { follows: "a" } }],
    ["itself by a nested path", { a: { url, inputs: { b: { follows: "a/b" } } } }],
    ["its own way", { a: { follows: "b/x" }, b: { url, inputs: { x: { follows: "a" } } } }],
    ["nothing, at the top", { a: { follows: "" } }],
    ["no path", { a: { url, inputs: { b: { follows: "c//d" } } }, c: { url } }],
    ["and is fetched", { a: { url, follows: "b" }, b: { url } }],
  ])("refuses an input that follows %s", (_what, inputs) => {
    expect(() => flake(withInputs(inputs))).toThrow(expect.objectContaining({ code: "NIX_GEN_BAD_FOLLOWS" }));
  });

  test("takes chains that end", () => {
    flake(
      withInputs({
        a: { follows: "b" },
        b: { follows: "c/d" },
        c: { url, inputs: { d: { follows: "e" } } },
        e: { url, inputs: { f: { follows: "c/unknown" } } },
      }),
    );
  });
});
