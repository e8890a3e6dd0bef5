import { QemuError } from "../errors.ts";
import { knownSchema, type QmpSchema, type SchemaType, type TypeReference, type TypeUse } from "./schema.ts";

const EVERY = -1;
const BUILTINS: ReadonlySet<string> = new Set(["str", "int", "number", "bool", "null", "any"]);

interface Entity {
  readonly name: string;
  readonly "meta-type": string;
  readonly "arg-type"?: string;
  readonly "ret-type"?: string;
  readonly "allow-oob"?: boolean;
  readonly "element-type"?: string;
  readonly members?: readonly { readonly name: string; readonly type: string; readonly default?: null }[];
  readonly tag?: string;
  readonly variants?: readonly { readonly case: string; readonly type: string }[];
  readonly values?: readonly string[];
}

/**
 * Reads what `query-qmp-schema` returned.
 *
 * @param entities - The answer.
 * @param version - Which QEMU it came from, such as `7.2`.
 * @throws {QemuError} `QEMU_QMP_PROTOCOL` when it is no schema.
 * @see QEMU 7.2, docs/devel/qapi-code-gen.rst, "Client JSON Protocol introspection"
 */
export async function decodeIntrospection(entities: unknown, version: string): Promise<QmpSchema> {
  const shipped = await knownSchema();
  try {
    return decode(entities as readonly Entity[], version, (command) => shipped.commands.get(command)?.isOpen === true);
  } catch (cause) {
    throw new QemuError("QEMU_QMP_PROTOCOL", "expected a schema from query-qmp-schema, got something else", { cause });
  }
}

function decode(entities: readonly Entity[], version: string, isOpen: (command: string) => boolean): QmpSchema {
  const kinds = ["enum", "array", "alternate", "object"];
  const rows = entities.filter((entity) => kinds.includes(entity["meta-type"]));
  const indexes = new Map(rows.map(({ name }, index) => [name, index]));
  const use = (type: string | undefined): TypeUse[] => {
    const found = type !== undefined && BUILTINS.has(type) ? (type as TypeReference) : indexes.get(type ?? "");
    if (found === undefined) throw new Error(`no type ${type}`);
    return [{ type: found, versions: EVERY }];
  };
  const named = (kind: string): Entity[] => entities.filter((entity) => entity["meta-type"] === kind);
  const facts = { versions: EVERY, deprecated: 0, unstable: 0 };
  const commands = named("command").map((entity) => {
    const places = { arguments: use(entity["arg-type"]), returns: use(entity["ret-type"]) };
    const outOfBand = entity["allow-oob"] === true ? EVERY : 0;
    return [entity.name, { ...places, ...facts, outOfBand, isOpen: isOpen(entity.name) }] as const;
  });
  const events = named("event").map(
    (entity) => [entity.name, { data: use(entity["arg-type"]), versions: EVERY }] as const,
  );
  const types = rows.map((entity) => decodeType(entity, use));
  return { versions: [version], types, commands: new Map(commands), events: new Map(events) };
}

function decodeType(entity: Entity, use: (type: string | undefined) => TypeUse[]): SchemaType {
  const members = entity.members ?? [];
  switch (entity["meta-type"]) {
    case "enum": {
      const values = entity.values ?? members.map(({ name }) => name);
      return { kind: "enum", name: "", values: values.map((name) => ({ name, versions: EVERY })) };
    }
    case "array":
      return { kind: "array", element: use(entity["element-type"]) };
    case "alternate":
      return { kind: "alternate", name: "", members: members.flatMap(({ type }) => use(type)) };
    default:
      return {
        kind: "object",
        name: "",
        members: members.map(({ name, type, ...rest }) => {
          return { name, uses: use(type), versions: EVERY, required: "default" in rest ? 0 : EVERY };
        }),
        tag: entity.tag,
        variants: new Map((entity.variants ?? []).map((variant) => [variant.case, use(variant.type)])),
      };
  }
}
