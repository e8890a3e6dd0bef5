import type { Bytes } from "../bytes/byte-source.ts";
import { UkiSignError } from "../errors.ts";
import { PROFILE_SECTION_NAMES } from "../format/uki.ts";
import { type PeImage, type PeSection, peSectionSource } from "../pe/image.ts";
import type { NewPeSection } from "../pe/sections.ts";
import { decodeInput } from "./section-content.ts";

/** Sections of an image by the profile they belong to. */
export interface ProfileSections {
  /** what all profiles share */
  readonly base: readonly PeSection[];
  /** what each profile has of its own, its `.profile` section first; empty for an image without profiles */
  readonly profiles: readonly (readonly PeSection[])[];
}

/** Sorts sections by profile: each begins with its `.profile` section (UKI 1.0, "Multi-Profile UKIs"). */
export function splitProfiles({ sections }: PeImage): ProfileSections {
  const starts = sections.flatMap(({ name }, index) => (name === ".profile" ? [index] : []));
  return {
    base: sections.slice(0, starts[0] ?? sections.length),
    profiles: starts.map((start, index) => sections.slice(start, starts[index + 1] ?? sections.length)),
  };
}

/**
 * The sections that a profile's image brings into a unified kernel image.
 *
 * @param field - the option it came from
 */
export function sectionsOfProfile(image: Bytes, field: string, options: { osRelease: boolean }): NewPeSection[] {
  const names = PROFILE_SECTION_NAMES.filter((name) => options.osRelease || name !== ".osrel");
  const found = decodeInput(field, image).sections.filter(({ name }) => names.includes(name));
  // An entry before the profile is the stub's own, if it was made with a stub that has one.
  const imported = found[0]?.name === ".sbat" ? found.slice(1) : found;
  const [first, ...rest] = imported;
  const twice = imported.find(({ name }, index) => imported.findIndex((other) => other.name === name) < index);
  if (first?.name !== ".profile" || rest.some(({ name }) => name === ".profile") || twice !== undefined) {
    const got = imported.map(({ name }) => name).join(" ") || "none";
    throw new UkiSignError(
      "UKI_SIGN_PROFILE_INVALID",
      `expected a profile's image with .profile as its first section, and each section once, got ${got}`,
      { field, hint: "buildUkiProfile, or uki-sign build --profile without --linux, makes one" },
    );
  }
  return imported.map((section) => ({
    name: section.name,
    data: peSectionSource(image, section),
    characteristics: section.characteristics,
  }));
}

/** What a `.profile` section says about itself, in the format of os-release. */
export interface ProfileDescription {
  /** `ID=`: what a boot loader entry names the profile by */
  readonly id?: string | undefined;
  /** `TITLE=`: what a boot menu shows */
  readonly title?: string | undefined;
}

/** Reads `ID=` and `TITLE=` of a `.profile` section; the last of several counts, as for os-release. */
export function parseProfile(text: string): ProfileDescription {
  const values = new Map<string, string>();
  for (const line of text.split("\n")) {
    const [, name = "", value = ""] = /^\s*([A-Z_]+)=(.*?)\s*$/.exec(line) ?? [];
    values.set(name, value.replace(/^(["'])(.*)\1$/, "$2"));
  }
  return { id: values.get("ID"), title: values.get("TITLE") };
}
