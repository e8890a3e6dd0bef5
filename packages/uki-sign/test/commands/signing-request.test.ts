import { describe, expect, test } from "vitest";
import { renderRequest } from "../../src/commands/signing-request.ts";
import { buildUki, buildUkiProfile, describePe, type SigningDescription } from "../../src/index.ts";
import { digestOf } from "../../src/remote/requests.ts";
import { testKernel, testStub } from "../support/pe.ts";

const long = `usrhash=${"0123456789abcdef".repeat(4)} ${"quiet ".repeat(20)}init=/bin/sh`;
const profiles = ["debug", "rescue"].map((name) =>
  buildUkiProfile({ stub: testStub(), profile: `ID=${name}\n`, cmdline: `${long} systemd.unit=${name}.target` }),
);
const image = buildUki({
  stub: testStub(),
  linux: testKernel(),
  osRelease: "ID=hare\nNAME=Hare\n",
  profile: "ID=main\n",
  cmdline: long,
  joinProfiles: profiles,
});

function render(description: SigningDescription): string {
  return renderRequest({
    kind: "uki-signing-request",
    version: 1,
    id: "0".repeat(32),
    client: "builder",
    state: "pending",
    hash: "sha256",
    padding: "pkcs1",
    digest: digestOf(description, "sha256") ?? "",
    description,
    approvals: [],
    approvalsNeeded: 1,
    expiresAt: "2026-01-01T00:00:00Z",
  });
}

describe("a request as its approvers see it", () => {
  test("has every command line as a whole, with the number of its profile", () => {
    const text = render(describePe(image, { name: "linux.efi" }));
    // Lines are broken, nothing is left out.
    const joined = text.replaceAll(/\n {2,}/g, "").replaceAll(" ", "");
    for (const tail of [
      "init=/bin/sh",
      "init=/bin/shsystemd.unit=debug.target",
      "init=/bin/shsystemd.unit=rescue.target",
    ]) {
      expect(joined).toContain(`${long.replaceAll(" ", "").slice(0, -"init=/bin/sh".length)}${tail}`);
    }
    for (const what of ["profile 0: ID=main", "cmdline of profile 1:", "cmdline of profile 2:", "  NAME=Hare"]) {
      expect(text).toContain(what);
    }
    expect(text).not.toContain("…");
  });

  test("cannot be made to look as if something had been checked", () => {
    const claims = `quiet\n${" ".repeat(200)}checked  everything\n  checked  all\u001b[2J\tof it`;
    const text = render({ ...describePe(image, { name: "linux.efi" }), cmdline: claims });
    expect(text.match(/^ {2}checked {2}/gm)).toHaveLength(1);
    expect(text).toContain("all\\u{1b}[2J\\tof it");
    for (const line of text.split("\n").filter((each) => each.includes("everything"))) expect(line).toMatch(/^ {11}/);
  });

  test("has claims in characters of one column only, none of which reaches the edge of a terminal", () => {
    const wide = `\u3000`.repeat(33);
    const claims = { name: `${wide}  checked  all`, osRelease: `NAME=H\u00e4re \u202e\u2028${wide}\u0301\ufe0f\n` };
    const text = render({ ...describePe(image, { name: "x" }), ...claims });
    expect(text).toMatch(/^[\n\x20-\x7e]*$/);
    expect(text).toContain("H\\u{e4}re");
    expect(text.match(/^ {2}checked {2}/gm)).toHaveLength(1);
    for (const line of text.split("\n").filter((each) => each.includes("u{3000}"))) {
      expect(line.length).toBeLessThan(80);
    }
  });

  test("says so where an image has no text, or more than a description holds", () => {
    const odd = buildUki({ stub: testStub(), linux: testKernel(), cmdline: `${"x".repeat(5000)} init=/bin/sh` });
    const { cmdline } = describePe(odd, { name: "linux.efi" });
    expect(cmdline).toHaveLength(4096);
    expect(cmdline).toMatch(/x…$/);
  });
});
