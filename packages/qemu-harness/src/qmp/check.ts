import { MAX_QMP_DEPTH, memberPath, type QmpIssue } from "./json.ts";
import type { QmpSchema, SchemaCommand, SchemaMember, SchemaObject, TypeUse, VersionSet } from "./schema.ts";
import { renderVersions } from "./versions.ts";

/** A schema as one of its versions has it. */
export interface SchemaVersion {
  readonly schema: QmpSchema;
  /** one bit */
  readonly bit: VersionSet;
  /** such as `7.2` */
  readonly name: string;
}

/** The version `major.minor` of a schema; undefined when the schema does not know it. */
export function versionOf(schema: QmpSchema, name: string): SchemaVersion | undefined {
  const index = schema.versions.indexOf(name);
  return index === -1 ? undefined : { schema, bit: 1 << index, name };
}

/** Most of what is wrong that is told. */
const MAX_ISSUES = 20;
const MAX_LISTED = 12;
const MAX_SHOWN_CHARS = 60;

const BUILTIN_WORDS = {
  str: "a string",
  int: "an integer",
  number: "a number",
  bool: "true or false",
  null: "null",
  any: "a value",
} as const;

/** What is wrong with a command and its arguments. */
export function checkArguments(version: SchemaVersion, command: string, args: unknown): QmpIssue[] {
  const known = version.schema.commands.get(command);
  if (known === undefined) return [{ path: "", message: `expected a command of QEMU ${version.name}, got ${command}` }];
  if ((known.versions & version.bit) === 0) {
    return [{ path: "", message: `${command} ${needs(known.versions, version)}` }];
  }
  const checker = new Checker(version);
  checker.check(known.arguments, args, "", 0, known);
  return checker.issues;
}

/** What is wrong with what a command returned; a command the schema does not know may return anything. */
export function checkReturn(version: SchemaVersion, command: string, value: unknown): QmpIssue[] {
  return checkUses(version, version.schema.commands.get(command)?.returns, value);
}

/** What is wrong with the data of an event; an event the schema does not know may say anything. */
export function checkEvent(version: SchemaVersion, event: string, data: unknown): QmpIssue[] {
  return checkUses(version, version.schema.events.get(event)?.data, data);
}

function checkUses(version: SchemaVersion, uses: readonly TypeUse[] | undefined, value: unknown): QmpIssue[] {
  const checker = new Checker(version);
  if (uses !== undefined) checker.check(uses, value, "", 0);
  return checker.issues;
}

/** `needs QEMU 10.0 or newer, this is 7.2`. */
function needs(versions: VersionSet, { schema, name }: SchemaVersion): string {
  return `needs QEMU ${renderVersions(versions, schema)}, this is ${name}`;
}

class Checker {
  readonly issues: QmpIssue[] = [];
  readonly #version: SchemaVersion;

  constructor(version: SchemaVersion) {
    this.#version = version;
  }

  check(uses: readonly TypeUse[], value: unknown, path: string, depth: number, command?: SchemaCommand): void {
    if (this.issues.length >= MAX_ISSUES) return;
    if (depth > MAX_QMP_DEPTH) {
      this.#report(path, `expected at most ${MAX_QMP_DEPTH} levels, got more`);
      return;
    }
    const candidates = this.#flatten(uses);
    const use = candidates.find(({ type }) => this.#fits(type, value));
    if (use === undefined) {
      const words = [...new Set(candidates.map((candidate) => this.#describe(candidate)))];
      this.#report(path, `expected ${listed(words)}, got ${show(value)}`);
      return;
    }
    if (typeof use.type === "string") return;
    const type = this.#version.schema.types[use.type];
    if (type?.kind === "object") {
      // Types of other versions in the same place say which of them has a member that this one lacks.
      this.#checkObject(uses, value as Record<string, unknown>, path, depth, command?.isOpen === true);
    } else if (type?.kind === "array") {
      for (const [index, item] of (value as unknown[]).entries())
        this.check(type.element, item, `${path}[${index}]`, depth + 1);
    } else if (type?.kind === "enum") {
      this.#checkEnum(type.values, value as string, path);
    }
  }

  #checkEnum(
    values: readonly { readonly name: string; readonly versions: VersionSet }[],
    value: string,
    path: string,
  ): void {
    const found = values.find(({ name }) => name === value);
    const here = values.filter(({ versions }) => (versions & this.#version.bit) !== 0);
    if (found === undefined) {
      this.#report(path, `expected ${listed(here.map(({ name }) => JSON.stringify(name)))}, got ${show(value)}`);
    } else if (!here.includes(found)) {
      this.#report(path, `${show(value)} ${needs(found.versions, this.#version)}`);
    }
  }

  #checkObject(
    uses: readonly TypeUse[],
    value: Readonly<Record<string, unknown>>,
    path: string,
    depth: number,
    isOpen: boolean,
  ): void {
    const members = this.#membersOf(uses, value);
    for (const [name, item] of Object.entries(value)) {
      if (item === undefined) continue;
      const member = members.get(name);
      const at = memberPath(path, name);
      if (member === undefined) {
        const known = [...members.values()].filter(({ versions }) => (versions & this.#version.bit) !== 0);
        const names =
          known.length === 0
            ? "there are none"
            : `there are ${listed(
                known.map((one) => one.name),
                "and",
              )}`;
        if (!isOpen) this.#report(at, `expected no member of that name, got ${show(item)}; ${names}`);
      } else if ((member.versions & this.#version.bit) === 0) {
        this.#report(at, needs(member.versions, this.#version));
      } else {
        this.check(member.uses, item, at, depth + 1);
      }
    }
    for (const { name, uses, required } of members.values()) {
      if ((required & this.#version.bit) === 0 || value[name] !== undefined) continue;
      const words = this.#flatten(uses).map((use) => this.#describe(use));
      this.#report(memberPath(path, name), `expected ${listed([...new Set(words)])}, got none`);
    }
  }

  /** Members of the objects among some types, in every version, those that depend on a tag included. */
  #membersOf(uses: readonly TypeUse[], value: Readonly<Record<string, unknown>>): Map<string, SchemaMember> {
    const members = new Map<string, SchemaMember>();
    for (const { type: reference, versions } of uses) {
      const type = typeof reference === "number" ? this.#version.schema.types[reference] : undefined;
      const found = type?.kind === "object" ? [...type.members, ...this.#variantOf(type, value)] : [];
      const inner = type?.kind === "alternate" ? [...this.#membersOf(type.members, value).values()] : [];
      for (const member of [...found, ...inner]) {
        const other = members.get(member.name);
        members.set(member.name, {
          name: member.name,
          uses: [...(other?.uses ?? []), ...member.uses],
          versions: (other?.versions ?? 0) | (member.versions & versions),
          required: (other?.required ?? 0) | (member.required & versions),
        });
      }
    }
    return members;
  }

  #variantOf(type: SchemaObject, value: Readonly<Record<string, unknown>>): Iterable<SchemaMember> {
    const tag = type.tag === undefined ? undefined : value[type.tag];
    const uses = typeof tag === "string" ? type.variants.get(tag) : undefined;
    return uses === undefined ? [] : this.#membersOf(uses, value).values();
  }

  /** The types that may stand somewhere in this version, alternatives one by one. */
  #flatten(uses: readonly TypeUse[]): TypeUse[] {
    return uses
      .filter(({ versions }) => (versions & this.#version.bit) !== 0)
      .flatMap((use) => {
        const type = typeof use.type === "number" ? this.#version.schema.types[use.type] : undefined;
        return type?.kind === "alternate" ? this.#flatten(type.members) : [use];
      });
  }

  /** Whether a value is of the JSON kind that a type asks for. */
  #fits(reference: TypeUse["type"], value: unknown): boolean {
    switch (reference) {
      case "any":
        return value !== undefined;
      case "str":
        return typeof value === "string";
      case "int":
        return typeof value === "bigint" || Number.isSafeInteger(value);
      case "number":
        return typeof value === "bigint" || typeof value === "number";
      case "bool":
        return typeof value === "boolean";
      case "null":
        return value === null;
      default: {
        const kind = this.#version.schema.types[reference]?.kind;
        if (kind === "enum") return typeof value === "string";
        if (kind === "array") return Array.isArray(value);
        return typeof value === "object" && value !== null && !Array.isArray(value);
      }
    }
  }

  #describe({ type: reference }: TypeUse): string {
    if (typeof reference === "string") return BUILTIN_WORDS[reference];
    const type = this.#version.schema.types[reference];
    if (type?.kind === "array") return "an array";
    if (type?.kind !== "enum") return "an object";
    const here = type.values.filter(({ versions }) => (versions & this.#version.bit) !== 0);
    return listed(here.map(({ name }) => JSON.stringify(name)));
  }

  #report(path: string, message: string): void {
    if (this.issues.length < MAX_ISSUES) this.issues.push({ path, message });
  }
}

/** `a, b or c`, cut short. */
function listed(words: readonly string[], conjunction: "and" | "or" = "or"): string {
  const shown = words.slice(0, MAX_LISTED);
  const rest = words.length - shown.length;
  const all = rest === 0 ? shown : [...shown, `${rest} more`];
  return all.length < 2 ? all.join("") : `${all.slice(0, -1).join(", ")} ${conjunction} ${all.at(-1)}`;
}

function show(value: unknown): string {
  if (value === undefined) return "none";
  if (typeof value === "bigint") return String(value);
  if (Array.isArray(value)) return "an array";
  if (typeof value === "object" && value !== null) return "an object";
  const text = JSON.stringify(value) ?? String(value);
  return text.length > MAX_SHOWN_CHARS ? `${text.slice(0, MAX_SHOWN_CHARS)}…` : text;
}
