import type { QmpSchema, VersionSet } from "./schema.ts";

/** `10.0 or newer`. */
export function renderVersions(versions: VersionSet, schema: QmpSchema): string {
  const have = schema.versions.filter((_, index) => (versions & (1 << index)) !== 0);
  const [first = ""] = have;
  const at = schema.versions.indexOf(first);
  if (at + have.length === schema.versions.length) return `${first} or newer`;
  if (at === 0 && schema.versions[have.length - 1] === have.at(-1)) return `${have.at(-1)} or older`;
  return have.join(" or ");
}
