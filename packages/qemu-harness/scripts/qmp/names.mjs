// Names for types, which QEMU does not tell: each is called after the shortest way to it from a command or an event,
// those of older versions first, so that a newer version takes no name away.

/** Key of every type but arrays and built-ins → its name. */
export function nameTypes({ commands, events, types }) {
  const names = new Map([["empty", "Empty"]]);
  const taken = new Set(names.values());
  let level = rootsOf(commands, events, types);
  while (level.length > 0) {
    const below = [];
    for (const { key, name, stem } of level) {
      const type = types.get(key);
      if (type === undefined || names.has(key)) continue;
      if (type.kind === "array") {
        below.push(...type.element.map((ref) => ({ key: ref.type, name, stem })));
        continue;
      }
      const free = freeName(name, taken);
      taken.add(free);
      names.set(key, free);
      for (const [refs, part] of childrenOf(type)) {
        const longer = stem + pascal(part);
        below.push(...refs.map((ref) => ({ key: ref.type, name: longer, stem: longer })));
      }
    }
    level = below;
  }
  return names;
}

function rootsOf(commands, events, types) {
  const oldestFirst = (entries) =>
    [...entries].sort(([a, { mask: x }], [b, { mask: y }]) => firstBit(x) - firstBit(y) || (a < b ? -1 : 1));
  const roots = [];
  for (const [command, entity] of oldestFirst(commands)) {
    const stem = pascal(command);
    for (const { type: key } of entity.arguments) roots.push({ key, name: `${stem}Arguments`, stem });
    for (const { type } of entity.returns) {
      const isArray = types.get(type)?.kind === "array";
      for (const key of isArray ? types.get(type).element.map((ref) => ref.type) : [type]) {
        roots.push({ key, name: `${stem}${isArray ? "Item" : "Result"}`, stem });
      }
    }
  }
  for (const [event, entity] of oldestFirst(events)) {
    const stem = `${pascal(event.toLowerCase())}Data`;
    for (const { type: key } of entity.data) roots.push({ key, name: stem, stem });
  }
  return roots;
}

function childrenOf(type) {
  if (type.kind === "object") {
    const members = type.members.map(({ refs, name }) => [refs, name]);
    return [...members, ...type.variants.map(({ refs, case: name }) => [refs, name])];
  }
  return type.kind === "alternate" ? [[type.members, ""]] : [];
}

function freeName(name, taken) {
  let free = name;
  for (let count = 2; taken.has(free); count += 1) free = `${name}${count}`;
  return free;
}

function firstBit(mask) {
  return Math.log2(mask & -mask);
}

function pascal(name) {
  return name
    .split(/[^A-Za-z0-9]+/)
    .map((word) => word.slice(0, 1).toUpperCase() + word.slice(1))
    .join("");
}
