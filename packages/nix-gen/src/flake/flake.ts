import { z } from "zod";
import { NixGenError } from "../errors.ts";
import { attrs, type Binding, type Bindings, bind, comment, letIn } from "../expression/bindings.ts";
import { lambda } from "../expression/syntax.ts";
import type { NixInput } from "../expression/value.ts";
import { isNixExpr, type NixExpr, nodeOf } from "../internal/node.ts";
import { checkOptions, zRecord } from "../internal/options.ts";
import { assertText, quote } from "../internal/text.ts";
import { type RenderOptions, renderNix } from "../print/render.ts";
import { assertInputs, type FlakeInputs } from "./inputs.ts";

/** Oldest Nix that a flake has to work with. */
export type NixTarget = "2.8" | "2.18" | "2.26";

/** Something per system and name: `packages.x86_64-linux.default`. */
export type PerSystem = { readonly [system: string]: { readonly [name: string]: NixInput } };

/** A program that `nix run` starts. */
export interface FlakeApp {
  /** store path of the program: a string with a derivation in it */
  readonly program: string | NixExpr;
}

/** Outputs of a flake; expressions refer to `self` and to inputs by name. */
export interface FlakeOutputs {
  /** what `nix build` builds */
  readonly packages?: PerSystem;
  /** environments of `nix develop` */
  readonly devShells?: PerSystem;
  /** what `nix flake check` builds */
  readonly checks?: PerSystem;
  /** what `nix run` starts */
  readonly apps?: { readonly [system: string]: { readonly [name: string]: FlakeApp } };
  /** what `nix fmt` starts, by system */
  readonly formatter?: { readonly [system: string]: NixInput };
  /** any other outputs: `lib`, `overlays`, `nixosModules` */
  readonly others?: { readonly [name: string]: NixInput };
}

/** What {@link flake} describes. */
export interface FlakeOptions {
  /** one line about it; plain text only, as Nix reads it before it evaluates anything */
  readonly description?: string;
  /** other flakes that it needs */
  readonly inputs?: FlakeInputs;
  /** bindings that all outputs share, as a `let` around them */
  readonly bindings?: Bindings;
  /** what it offers */
  readonly outputs: FlakeOutputs;
  /** settings for Nix; plain values only */
  readonly nixConfig?: { readonly [name: string]: string | boolean | number | readonly string[] };
  /** oldest Nix that it has to work with; `"2.8"` when not given */
  readonly target?: NixTarget;
  /** comment at the top of the file */
  readonly comment?: string;
}

declare const FLAKE: unique symbol;

/** A checked flake. Opaque; {@link renderFlake} prints it. */
export interface Flake {
  readonly [FLAKE]: "Flake";
}

const zInputs: z.ZodType<FlakeInputs, FlakeInputs> = zRecord(
  z.lazy(() =>
    z.strictObject({
      url: z.string().exactOptional(),
      flake: z.boolean().exactOptional(),
      follows: z.string().exactOptional(),
      inputs: zInputs.exactOptional(),
    }),
  ),
);

const zAnything = z.custom<NixInput>((value) => value !== undefined, "expected a value or an expression");
const zNames = zRecord(zAnything);
const zPerSystem = zRecord(zNames);

const SCHEMA = z.strictObject({
  description: z.string().optional(),
  inputs: zInputs.default({}),
  bindings: z.custom<Bindings>((value) => typeof value === "object" && value !== null && !isNixExpr(value)).optional(),
  outputs: z.strictObject({
    packages: zPerSystem.optional(),
    devShells: zPerSystem.optional(),
    checks: zPerSystem.optional(),
    apps: zRecord(zRecord(z.strictObject({ program: zAnything }))).optional(),
    formatter: zNames.optional(),
    others: zNames.optional(),
  }),
  nixConfig: zRecord(
    z.union([z.string(), z.boolean(), z.int().nonnegative(), z.array(z.string()).readonly()]),
  ).optional(),
  target: z.enum(["2.8", "2.18", "2.26"]).default("2.8"),
  comment: z.string().optional(),
});

type Checked = z.output<typeof SCHEMA>;

const flakes = new WeakMap<object, NixExpr>();

/**
 * A flake, checked as a whole: what Nix must read literally is plain data by type, names and references are valid,
 * `follows` leads somewhere, and nothing in it needs a Nix younger than `target`.
 *
 * @param options - What it needs and offers.
 * @returns The flake, to be printed with {@link renderFlake}.
 * @throws {NixGenError} `NIX_GEN_BAD_OPTIONS` for options of the wrong shape and for features that the target lacks,
 *   `NIX_GEN_BAD_IDENTIFIER`, `NIX_GEN_BAD_FOLLOWS`, and whatever {@link nix} throws for values.
 * @see Nix manual, "nix flake", Flake format
 * @example
 * flake({ description: "hello", outputs: { packages: { "x86_64-linux": { default: derivation({ … }) } } } })
 */
export function flake(options: FlakeOptions): Flake {
  const checked = checkOptions(SCHEMA, options, "flake");
  assertInputs(checked.inputs);
  const systems = [checked.outputs.packages, checked.outputs.devShells, checked.outputs.checks, checked.outputs.apps];
  for (const group of [...systems, checked.outputs.formatter]) Object.keys(group ?? {}).forEach(assertSystem);
  if (checked.description !== undefined) assertText(checked.description, "description");
  const expr = flakeExpr(checked);
  assertTarget(expr, checked.target);
  const made = Object.freeze({}) as Flake;
  flakes.set(made, expr);
  return made;
}

/**
 * Prints a flake as the text of `flake.nix`: `description`, `inputs`, `nixConfig` and `outputs`, in that order.
 *
 * @param flake - A flake from {@link flake}.
 * @param options - Line width.
 * @returns The source, ending in a line feed.
 */
export function renderFlake(flake: Flake, options: RenderOptions = {}): string {
  const expr = flakes.get(flake);
  if (expr === undefined) throw new TypeError("expected a flake made by flake(), got something else");
  return renderNix(expr, options);
}

function flakeExpr(checked: Checked): NixExpr {
  const { description, inputs, nixConfig, bindings, outputs } = checked;
  const body = attrs(outputBindings(outputs));
  const parameters = { formals: ["self", ...Object.keys(inputs)] };
  const lines: Binding[] = [
    ...(description === undefined ? [] : [bind("description", description)]),
    ...(Object.keys(inputs).length === 0 ? [] : [bind("inputs", attrs(inputBindings(inputs, [])))]),
    ...(nixConfig === undefined ? [] : [bind("nixConfig", nixConfig)]),
    bind("outputs", lambda(parameters, bindings === undefined ? body : letIn(bindings, body))),
  ];
  return checked.comment === undefined ? attrs(lines) : comment(checked.comment, attrs(lines));
}

/** `nixpkgs.url = …; nixpkgs.inputs.x.follows = …;`, as people write it. */
function inputBindings(inputs: FlakeInputs, prefix: readonly string[]): Binding[] {
  return Object.entries(inputs).flatMap(([name, input]) => {
    const path = [...prefix, name];
    return [
      ...(input.url === undefined ? [] : [bind([...path, "url"], input.url)]),
      ...(input.flake === undefined ? [] : [bind([...path, "flake"], input.flake)]),
      ...(input.follows === undefined ? [] : [bind([...path, "follows"], input.follows)]),
      ...inputBindings(input.inputs ?? {}, [...path, "inputs"]),
    ];
  });
}

function outputBindings({ others = {}, apps, formatter, ...perSystem }: Checked["outputs"]): Binding[] {
  const lines: Binding[] = [];
  for (const [kind, systems] of Object.entries(perSystem)) {
    for (const [system, named] of Object.entries(systems ?? {})) {
      const [only, ...others] = Object.entries(named);
      const isOne = only !== undefined && others.length === 0;
      lines.push(isOne ? bind([kind, system, only[0]], only[1]) : bind([kind, system], named));
    }
  }
  for (const [system, named] of Object.entries(apps ?? {})) {
    const programs = Object.entries(named).map(([name, { program }]) => bind(name, { type: "app", program }));
    lines.push(bind(["apps", system], attrs(programs)));
  }
  for (const [system, program] of Object.entries(formatter ?? {})) lines.push(bind(["formatter", system], program));
  for (const [name, value] of Object.entries(others)) lines.push(bind(name, value));
  return lines;
}

function assertSystem(system: string): void {
  if (/^[a-z0-9_]+-[a-z0-9_]+$/.test(system)) return;
  const message = `expected a system such as x86_64-linux, got ${quote(system)}`;
  throw new NixGenError("NIX_GEN_BAD_OPTIONS", message, { path: "outputs" });
}

function assertTarget(expr: NixExpr, target: NixTarget): void {
  const { requirement } = nodeOf(expr);
  if (requirement === undefined) return;
  const [major = 0, minor = 0] = target.split(".").map(Number);
  const [needMajor, needMinor] = requirement.since;
  if (major > needMajor || (major === needMajor && minor >= needMinor)) return;
  const message = `expected only what Nix ${target} has, got ${requirement.feature}, which came with ${needMajor}.${needMinor}`;
  throw new NixGenError("NIX_GEN_BAD_OPTIONS", message, { hint: "leave it out, or raise the flake's target" });
}
