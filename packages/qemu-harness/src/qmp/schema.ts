/** Versions as a set: bit `i` stands for the schema's version `i`. */
export type VersionSet = number;

/** A built-in type, by QEMU's name, or the index of another. */
export type TypeReference = "str" | "int" | "number" | "bool" | "null" | "any" | number;

/** A type that stands somewhere in some versions. */
export interface TypeUse {
  readonly type: TypeReference;
  readonly versions: VersionSet;
}

/** A member of an object. */
export interface SchemaMember {
  readonly name: string;
  readonly uses: readonly TypeUse[];
  readonly versions: VersionSet;
  /** versions that ask for it */
  readonly required: VersionSet;
}

/** Object; further members depend on the value of the one called `tag`. */
export interface SchemaObject {
  readonly kind: "object";
  readonly name: string;
  readonly members: readonly SchemaMember[];
  readonly tag: string | undefined;
  readonly variants: ReadonlyMap<string, readonly TypeUse[]>;
}

/** Anything but a built-in type. */
export type SchemaType =
  | SchemaObject
  | {
      readonly kind: "enum";
      readonly name: string;
      readonly values: readonly { readonly name: string; readonly versions: VersionSet }[];
    }
  | { readonly kind: "array"; readonly element: readonly TypeUse[] }
  | { readonly kind: "alternate"; readonly name: string; readonly members: readonly TypeUse[] };

/** What a command takes and returns. */
export interface SchemaCommand {
  readonly arguments: readonly TypeUse[];
  readonly returns: readonly TypeUse[];
  readonly versions: VersionSet;
  /** versions in which it may run out of band */
  readonly outOfBand: VersionSet;
  readonly deprecated: VersionSet;
  readonly unstable: VersionSet;
  /** whether it takes more arguments than the schema knows */
  readonly isOpen: boolean;
}

/** What an event says. */
export interface SchemaEvent {
  readonly data: readonly TypeUse[];
  readonly versions: VersionSet;
}

/** The protocol of one or several versions of QEMU. */
export interface QmpSchema {
  /** such as `7.2`, oldest first */
  readonly versions: readonly string[];
  readonly types: readonly SchemaType[];
  readonly commands: ReadonlyMap<string, SchemaCommand>;
  readonly events: ReadonlyMap<string, SchemaEvent>;
}

const EVERY: VersionSet = -1;

type Uses = TypeReference | readonly (readonly [TypeReference, VersionSet])[];
type EnumRow = readonly [string, "e", ...(string | readonly [string, VersionSet])[]];
type ArrayRow = readonly [string, "a", Uses];
type AlternateRow = readonly [string, "u", ...Uses[]];
type MemberRow = readonly [string, Uses, VersionSet?, VersionSet?];
type ObjectRow = readonly [string, "o", readonly MemberRow[], string?, (readonly (readonly [string, Uses])[])?];
type TypeRow = EnumRow | ArrayRow | AlternateRow | ObjectRow;
type CommandRow = readonly [string, Uses, Uses, VersionSet?, VersionSet?, VersionSet?, VersionSet?, number?];

interface SchemaFile {
  readonly versions: readonly string[];
  readonly types: readonly TypeRow[];
  readonly commands: readonly CommandRow[];
  readonly events: readonly (readonly [string, Uses, VersionSet?])[];
}

let known: Promise<QmpSchema> | undefined;

/** The protocol of the versions this package knows; read from its own file at the first call. */
export function knownSchema(): Promise<QmpSchema> {
  known ??= import("./generated/schema.ts").then(({ SCHEMA }) => decodeSchema(JSON.parse(SCHEMA)));
  return known;
}

function decodeSchema({ versions, types, commands, events }: SchemaFile): QmpSchema {
  return {
    versions,
    types: types.map(decodeType),
    commands: new Map(
      commands.map(([name, args, returns, mask = EVERY, outOfBand = 0, deprecated = 0, unstable = 0, open = 0]) => [
        name,
        {
          arguments: decodeUses(args),
          returns: decodeUses(returns),
          versions: mask,
          outOfBand,
          deprecated,
          unstable,
          isOpen: open === 1,
        },
      ]),
    ),
    events: new Map(events.map(([name, data, mask = EVERY]) => [name, { data: decodeUses(data), versions: mask }])),
  };
}

function decodeType(row: TypeRow): SchemaType {
  switch (row[1]) {
    case "e": {
      const [name, , ...values] = row;
      const decoded = values.map((value) =>
        typeof value === "string" ? { name: value, versions: EVERY } : { name: value[0], versions: value[1] },
      );
      return { kind: "enum", name, values: decoded };
    }
    case "a":
      return { kind: "array", element: decodeUses(row[2]) };
    case "u": {
      const [name, , ...members] = row;
      return { kind: "alternate", name, members: members.flatMap(decodeUses) };
    }
    case "o": {
      const [name, , members, tag, variants = []] = row;
      const cases = variants.map(([value, uses]) => [value, decodeUses(uses)] as const);
      return { kind: "object", name, members: members.map(decodeMember), tag, variants: new Map(cases) };
    }
  }
}

function decodeMember([text, uses, versions = EVERY, required]: MemberRow): SchemaMember {
  const isOptional = text.endsWith("?");
  const name = isOptional ? text.slice(0, -1) : text;
  return { name, uses: decodeUses(uses), versions, required: required ?? (isOptional ? 0 : versions) };
}

function decodeUses(uses: Uses): TypeUse[] {
  if (typeof uses !== "object") return [{ type: uses, versions: EVERY }];
  return uses.map(([type, versions]) => ({ type, versions }));
}
