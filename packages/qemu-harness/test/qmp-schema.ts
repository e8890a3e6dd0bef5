import * as fc from "fast-check";
import type { SchemaVersion } from "../src/qmp/check.ts";
import type { SchemaMember, TypeUse } from "../src/qmp/schema.ts";

// From here on objects have only the members they must have.
const MAX_DEPTH = 4;

/** Values that a schema allows somewhere; `undefined` never. */
export function valueFor(version: SchemaVersion, uses: readonly TypeUse[], depth = 0): fc.Arbitrary<unknown> {
  return fc.oneof(...here(version, uses).map(({ type }) => valueForType(version, type, depth)));
}

function valueForType(version: SchemaVersion, reference: TypeUse["type"], depth: number): fc.Arbitrary<unknown> {
  switch (reference) {
    case "str":
      return fc.constantFrom("", "a", "/nowhere/at all", "ü");
    case "int":
      return fc.constantFrom(0, 1, -1, 4096, 2 ** 53 - 1, 2n ** 63n - 1n);
    case "number":
      return fc.constantFrom(0, 0.5, 3);
    case "bool":
      return fc.boolean();
    case "null":
      return fc.constant(null);
    case "any":
      return fc.constantFrom<unknown>(null, 1, "any", [1]);
    default:
      return fc.constant(undefined).chain(() => valueForIndex(version, reference, depth));
  }
}

function valueForIndex(version: SchemaVersion, index: number, depth: number): fc.Arbitrary<unknown> {
  const type = version.schema.types[index];
  switch (type?.kind) {
    case "enum":
      return fc.constantFrom(...here(version, type.values).map(({ name }) => name));
    case "array":
      return fc.array(valueFor(version, type.element, depth + 1), { maxLength: depth > MAX_DEPTH ? 0 : 2 });
    case "alternate": {
      const members = here(version, type.members);
      // Objects of some alternates hold themselves.
      const shallow = members.filter(({ type: member }) => typeof member === "string");
      return valueFor(version, depth > MAX_DEPTH && shallow.length > 0 ? shallow : members, depth + 1);
    }
    case "object": {
      const { tag, variants } = type;
      const common = membersOf(
        version,
        type.members.filter(({ name }) => name !== tag),
        depth,
      );
      const tagUses = here(version, type.members).find(({ name }) => name === tag)?.uses;
      if (tag === undefined || tagUses === undefined) return common;
      return valueFor(version, tagUses, depth).chain((value) => {
        const uses = here(version, variants.get(String(value)) ?? []);
        const rest = uses.length === 0 ? fc.constant({}) : valueFor(version, uses, depth);
        return fc.tuple(common, rest).map(([a, b]) => ({ [tag]: value, ...(a as object), ...(b as object) }));
      });
    }
    default:
      throw new Error(`no type ${index}`);
  }
}

function membersOf(version: SchemaVersion, members: readonly SchemaMember[], depth: number): fc.Arbitrary<object> {
  const found = here(version, members);
  const wanted = found.filter(({ required }) => depth <= MAX_DEPTH || (required & version.bit) !== 0);
  const requiredKeys = found.filter(({ required }) => (required & version.bit) !== 0).map(({ name }) => name);
  const model = wanted.map(({ name, uses }) => [name, valueFor(version, uses, depth + 1)] as const);
  return fc.record(Object.fromEntries(model), { requiredKeys, noNullPrototype: true });
}

function here<Item extends { readonly versions: number }>(version: SchemaVersion, items: readonly Item[]): Item[] {
  return items.filter(({ versions }) => (versions & version.bit) !== 0);
}

/** A way to a value inside another, with the value. */
export interface Place {
  readonly path: readonly (string | number)[];
  readonly value: unknown;
}

/** Every value inside a value, itself included. */
export function placesOf(value: unknown, path: readonly (string | number)[] = []): Place[] {
  const below = Array.isArray(value)
    ? value.flatMap((item, index) => placesOf(item, [...path, index]))
    : typeof value === "object" && value !== null
      ? Object.entries(value).flatMap(([name, item]) => placesOf(item, [...path, name]))
      : [];
  return [{ path, value }, ...below];
}

/** A copy with the value at a path replaced, or left out where it is replaced by undefined. */
export function replaced(value: unknown, path: readonly (string | number)[], by: unknown): unknown {
  const [first, ...rest] = path;
  if (first === undefined) return by;
  if (Array.isArray(value)) {
    return value
      .map((item, index) => (index === first ? replaced(item, rest, by) : item))
      .filter((item) => item !== undefined);
  }
  const entries = Object.entries(value as object)
    .map(([name, item]) => [name, name === first ? replaced(item, rest, by) : item] as const)
    .filter(([, item]) => item !== undefined);
  return Object.fromEntries(entries);
}
