// Several versions' schemas as one. QEMU hides the names of types behind numbers, which mean nothing from one version to
// the next; what stands in the same place of the same command in two versions is taken for the same type.

/** Every version: a set of versions is a number with bit `i` for version `i`. */
export const allOf = (versions) => (1 << versions.length) - 1;

const BUILTINS = new Set(["str", "int", "number", "bool", "null", "any"]);
// Commands whose arguments depend on what they name, which the schema does not say: docs/devel/qapi-code-gen, `gen`.
const OPEN_COMMANDS = new Set(["device_add"]);

/**
 * @param captures - Parsed captures, oldest version first.
 * @returns Merged `commands`, `events` and `types`; a type is referred to by its key in `types` or a built-in's name.
 */
export function mergeSchemas(captures) {
  const classes = new Classes(captures);
  for (const kind of ["commands", "events"]) {
    for (const name of namesOf(captures, kind)) {
      for (const place of ["arg-type", "ret-type"]) {
        classes.join(captures.map(({ [kind]: entities }) => entities[name]?.[place]));
      }
    }
  }
  const types = new Map();
  const use = (refs) => {
    const uses = new Map();
    for (const [version, id] of refs.entries()) {
      if (id === undefined) continue;
      const key = classes.key(version, id);
      uses.set(key, (uses.get(key) ?? 0) | (1 << version));
    }
    for (const key of uses.keys()) {
      if (BUILTINS.has(key) || types.has(key)) continue;
      types.set(key, undefined);
      types.set(key, mergeType(classes.members(key), captures, use));
    }
    return [...uses].map(([type, mask]) => ({ type, mask }));
  };
  const commands = new Map();
  for (const name of namesOf(captures, "commands")) {
    const found = captures.map((capture) => capture.commands[name]);
    commands.set(name, {
      mask: maskOf(found, (entity) => entity !== undefined),
      arguments: use(found.map((entity) => entity?.["arg-type"])),
      returns: use(found.map((entity) => entity?.["ret-type"])),
      oob: maskOf(found, (entity) => entity?.["allow-oob"] === true),
      ...featureMasks(found),
      open: OPEN_COMMANDS.has(name),
    });
  }
  const events = new Map();
  for (const name of namesOf(captures, "events")) {
    const found = captures.map((capture) => capture.events[name]);
    const data = use(found.map((entity) => entity?.["arg-type"]));
    events.set(name, { mask: maskOf(found, (entity) => entity !== undefined), data, ...featureMasks(found) });
  }
  return { versions: captures.map(({ version }) => version), commands, events, types };
}

/** What stands for the same type in every version. */
class Classes {
  #captures;
  #parents = new Map();
  #joined = new Set();

  constructor(captures) {
    this.#captures = captures;
  }

  /** Takes the types of one place in each version for the same, and with them those of every place below it. */
  join(ids) {
    const found = ids
      .map((id, version) => ({ id, version, type: id === undefined ? undefined : this.#captures[version].types[id] }))
      .filter(({ id, type }) => id !== undefined && !BUILTINS.has(id) && !isEmpty(type));
    const metas = new Set(found.map(({ type }) => type["meta-type"]));
    for (const meta of metas) this.#joinAlike(found.filter(({ type }) => type["meta-type"] === meta));
  }

  #joinAlike(found) {
    const [first] = found;
    for (const { version, id } of found)
      this.#parents.set(this.#root(`${version}:${id}`), this.#root(`${first.version}:${first.id}`));
    const visit = found.map(({ version, id }) => `${version}:${id}`).join();
    if (this.#joined.has(visit)) return;
    this.#joined.add(visit);
    for (const place of new Set(found.flatMap(({ type }) => [...placesOf(type, this.#captures).keys()]))) {
      const ids = this.#captures.map(() => undefined);
      for (const { version, type } of found) ids[version] = placesOf(type, this.#captures).get(place) ?? ids[version];
      this.join(ids);
    }
  }

  #root(member) {
    const parent = this.#parents.get(member);
    return parent === undefined || parent === member ? member : this.#root(parent);
  }

  key(version, id) {
    if (BUILTINS.has(id)) return id;
    return isEmpty(this.#captures[version].types[id]) ? "empty" : this.#root(`${version}:${id}`);
  }

  /** The types of a class as `{ version, type }`. */
  members(key) {
    if (key === "empty") return [];
    const members = new Set([...this.#parents.keys(), key]);
    return [...members]
      .filter((member) => this.#root(member) === key)
      .map((member) => {
        const [version, id] = member.split(/:(.*)/);
        return { version: Number(version), type: this.#captures[version].types[id] };
      })
      .sort((a, b) => a.version - b.version);
  }
}

function isEmpty(type) {
  return type["meta-type"] === "object" && type.members.length === 0 && type.variants === undefined;
}

/** Where a type refers to others: place to id. */
function placesOf(type) {
  const places = new Map();
  if (type["element-type"] !== undefined) places.set("[]", type["element-type"]);
  const isAlternate = type["meta-type"] === "alternate";
  for (const [index, member] of (type.members ?? []).entries()) {
    if (member.type !== undefined) places.set(isAlternate ? `|${index}` : `.${member.name}`, member.type);
  }
  for (const { case: name, type: id } of type.variants ?? []) places.set(`?${name}`, id);
  return places;
}

function mergeType(members, captures, use) {
  if (members.length === 0) return { kind: "object", members: [], variants: [] };
  const kind = members[0].type["meta-type"];
  const versions = members.reduce((mask, { version }) => mask | (1 << version), 0);
  // A version in which two types stand for this one has what either has.
  const refs = (pick) => {
    const found = [[], []].map(() => captures.map(() => undefined));
    for (const { version, type } of members) {
      const id = pick(type);
      if (id !== undefined) found[found[0][version] === undefined ? 0 : 1][version] = id;
    }
    return unite([...use(found[0]), ...use(found[1])]);
  };
  const mask = (test) => members.reduce((sum, { version, type }) => (test(type) ? sum | (1 << version) : sum), 0);
  if (kind === "enum") {
    const values = unique(members.flatMap(({ type }) => type.members.map(({ name }) => name)));
    return {
      kind,
      versions,
      values: values.map((name) => ({ name, mask: mask((type) => type.members.some((value) => value.name === name)) })),
    };
  }
  if (kind === "array") return { kind, versions, element: refs((type) => type["element-type"]) };
  if (kind === "alternate") {
    const count = Math.max(...members.map(({ type }) => type.members.length));
    return {
      kind,
      versions,
      members: unite(Array.from({ length: count }, (_, i) => refs((type) => type.members[i]?.type)).flat()),
    };
  }
  const member = (type, name) => type.members.find((item) => item.name === name);
  const names = unique(members.flatMap(({ type }) => type.members.map(({ name }) => name)));
  const cases = unique(members.flatMap(({ type }) => (type.variants ?? []).map((variant) => variant.case)));
  return {
    kind,
    versions,
    members: names.map((name) => ({
      name,
      refs: refs((type) => member(type, name)?.type),
      mask: mask((type) => member(type, name) !== undefined),
      required: versions & ~mask((type) => member(type, name) === undefined || "default" in member(type, name)),
      ...featureMasks(captures.map((_, version) => newest(members, version, name, member))),
    })),
    tag: members.map(({ type }) => type.tag).find((tag) => tag !== undefined),
    variants: cases.map((name) => {
      const variant = (type) => type.variants?.find((item) => item.case === name);
      return {
        case: name,
        refs: refs((type) => variant(type)?.type),
        mask: mask((type) => variant(type) !== undefined),
      };
    }),
  };
}

function newest(members, version, name, member) {
  return members.filter((item) => item.version === version).map(({ type }) => member(type, name))[0];
}

function featureMasks(found) {
  const mask = (feature) => maskOf(found, (entity) => (entity?.features ?? []).includes(feature));
  return { deprecated: mask("deprecated"), unstable: mask("unstable") };
}

function unite(uses) {
  const masks = new Map();
  for (const { type, mask } of uses) masks.set(type, (masks.get(type) ?? 0) | mask);
  return [...masks].map(([type, mask]) => ({ type, mask }));
}

function maskOf(found, test) {
  return found.reduce((mask, entity, version) => (test(entity) ? mask | (1 << version) : mask), 0);
}

function namesOf(captures, kind) {
  return unique(captures.flatMap((capture) => Object.keys(capture[kind]))).sort();
}

function unique(items) {
  return [...new Set(items)];
}
