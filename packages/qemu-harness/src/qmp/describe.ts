import type { QmpSchema, SchemaMember, TypeReference, TypeUse, VersionSet } from "./schema.ts";
import { renderVersions } from "./versions.ts";

/** What stands in a place of a command or an event; plain data. */
export type QmpShape =
  | { readonly kind: "value"; readonly type: string }
  | { readonly kind: "choice"; readonly values: readonly { readonly value: string; readonly needs?: string }[] }
  | { readonly kind: "array"; readonly of: QmpShape }
  | { readonly kind: "either"; readonly of: readonly QmpShape[] }
  /** an object around this place once more */
  | { readonly kind: "again"; readonly name: string }
  | {
      readonly kind: "object";
      readonly name: string;
      readonly members: readonly QmpShapeMember[];
      /** member whose value decides which further members there are */
      readonly tag?: string;
    };

/** A member of an object. */
export interface QmpShapeMember {
  readonly name: string;
  readonly isOptional: boolean;
  /** versions that have it, when not all do */
  readonly needs?: string;
  readonly shape: QmpShape;
}

const MAX_LINE_CHARS = 100;

const WORDS = {
  str: "string",
  int: "integer",
  number: "number",
  bool: "true or false",
  null: "null",
  any: "anything",
} as const;

/**
 * Describes a place of a schema.
 *
 * @param path - Values of tags, outermost first, whose members are wanted too: `["qcow2"]` of `blockdev-add`.
 */
export function describeUses(schema: QmpSchema, uses: readonly TypeUse[], path: readonly string[] = []): QmpShape {
  return describeAll({ schema, path, around: [] }, uses);
}

interface Context {
  readonly schema: QmpSchema;
  readonly path: readonly string[];
  readonly around: readonly TypeReference[];
}

function describeAll(context: Context, uses: readonly TypeUse[]): QmpShape {
  const shapes = uses.map(({ type, versions }) => within(describe(context, type), needs(context.schema, versions)));
  const [first] = shapes;
  if (first === undefined) return { kind: "value", type: "nothing" };
  // A version in which there is nothing says nothing about the others.
  const real = shapes.filter((shape) => shape.kind !== "object" || shape.members.length > 0);
  if (real.length === 0) return first;
  return real.length === 1 && real[0] !== undefined ? real[0] : { kind: "either", of: real };
}

/** A shape that only some versions have; only members can say so. */
function within(shape: QmpShape, which: { readonly needs?: string }): QmpShape {
  if (shape.kind !== "object") return shape;
  return { ...shape, members: shape.members.map((member) => ({ ...which, ...member })) };
}

function describe(context: Context, reference: TypeReference): QmpShape {
  if (typeof reference === "string") return { kind: "value", type: WORDS[reference] };
  const { schema, around } = context;
  const type = schema.types[reference];
  if (type === undefined) throw new Error(`bug: the schema has no type ${reference}`);
  if (type.kind === "array") return { kind: "array", of: describeAll(context, type.element) };
  if (around.includes(reference)) return { kind: "again", name: type.name };
  const inside = { ...context, around: [...around, reference] };
  switch (type.kind) {
    case "enum":
      return {
        kind: "choice",
        values: type.values.map(({ name, versions }) => ({ value: name, ...needs(schema, versions) })),
      };
    case "alternate":
      return describeAll(inside, type.members);
    case "object": {
      const members = type.members.map((member) => describeMember(inside, member));
      if (type.tag === undefined) return { kind: "object", name: type.name, members };
      const [chosen, ...path] = context.path;
      const further = chosen === undefined ? undefined : type.variants.get(chosen);
      const shape = further === undefined ? undefined : describeAll({ ...inside, path }, further);
      const more = shape?.kind === "object" ? shape.members : [];
      return { kind: "object", name: type.name, members: [...members, ...more], tag: type.tag };
    }
  }
}

function describeMember(context: Context, { name, uses, versions, required }: SchemaMember): QmpShapeMember {
  const isOptional = required !== versions;
  return { name, isOptional, ...needs(context.schema, versions), shape: describeAll(context, uses) };
}

function needs(schema: QmpSchema, versions: VersionSet): { readonly needs?: string } {
  const all = (1 << schema.versions.length) - 1;
  return (versions & all) === all ? {} : { needs: renderVersions(versions, schema) };
}

/** A shape as indented lines, for people. */
export function renderShape(shape: QmpShape, indent: string): string[] {
  if (shape.kind !== "object") return [...wrapped(`${indent}${inline(shape)}`, indent), ...below(shape, indent)];
  if (shape.members.length === 0) return [`${indent}nothing`];
  return shape.members.flatMap((member) => {
    const isTag = member.name === shape.tag;
    const note = member.needs === undefined ? "" : ` (QEMU ${member.needs})`;
    const tagNote = isTag ? " (decides what else there is)" : "";
    const name = `${indent}${member.name}${member.isOptional ? "?" : ""}${note}${tagNote}: `;
    return [...wrapped(`${name}${inline(member.shape)}`, indent), ...below(member.shape, indent)];
  });
}

/** A line in pieces, broken between values. */
function wrapped(line: string, indent: string): string[] {
  const [first = "", ...rest] = line.split(/(?<= \|) /);
  const lines = [first];
  for (const piece of rest) {
    const last = lines.at(-1) ?? "";
    if (last.length + piece.length < MAX_LINE_CHARS) lines[lines.length - 1] = `${last} ${piece}`;
    else lines.push(`${indent}    ${piece}`);
  }
  return lines;
}

/** Lines under a place for the members of the objects in it. */
function below(shape: QmpShape, indent: string): string[] {
  if (shape.kind === "array") return below(shape.of, indent);
  if (shape.kind === "either") return shape.of.flatMap((one) => below(one, indent));
  return shape.kind === "object" ? renderShape(shape, `${indent}  `) : [];
}

function inline(shape: QmpShape): string {
  switch (shape.kind) {
    case "value":
      return shape.type;
    case "choice":
      return shape.values
        .map(({ value, needs: versions }) => value + (versions === undefined ? "" : ` (QEMU ${versions})`))
        .join(" | ");
    case "array":
      return `array of ${inline(shape.of)}`;
    case "either":
      return shape.of.map(inline).join(", or ");
    case "again":
      return "object as above";
    case "object":
      return shape.members.length === 0 ? "empty object" : "object";
  }
}
