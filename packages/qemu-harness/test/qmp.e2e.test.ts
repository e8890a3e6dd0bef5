import { existsSync, readFileSync } from "node:fs";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { QemuError, type QmpClient } from "../src/index.ts";
import { checkArguments, type SchemaVersion, versionOf } from "../src/qmp/check.ts";
import { decodeIntrospection } from "../src/qmp/introspection.ts";
import { parseQmpJson, renderArguments } from "../src/qmp/json.ts";
import { knownSchema } from "../src/qmp/schema.ts";
import { failure } from "./failure.ts";
import { connectEmptyQemu, startEmptyQemu, testQemus } from "./qemus.ts";
import { placesOf, replaced, valueFor } from "./qmp-schema.ts";

const seed = Number(process.env.LEVERET_SEED ?? Date.now() % 2 ** 31);
const { capture } = (await import(new URL("../scripts/qmp/capture.mjs", import.meta.url).href)) as {
  capture: (program: string) => Promise<{ file: string; text: string }>;
};

/** The schema of a QEMU: the checked-in one, or its own where its version is not known. */
async function versionOfClient(qmp: QmpClient): Promise<SchemaVersion> {
  const name = `${qmp.greeting.version.major}.${qmp.greeting.version.minor}`;
  const version = versionOf(await knownSchema(), name);
  if (version !== undefined) return version;
  const own = await decodeIntrospection(await qmp.execute("query-qmp-schema"), name);
  return { schema: own, bit: 1, name };
}

/** What QEMU says about a command, or undefined when it runs it. */
async function refusal(qmp: QmpClient, command: string, args: object): Promise<string | undefined> {
  const failed = await qmp.execute(command, args as Record<string, unknown>).catch((error: unknown) => error);
  if (!(failed instanceof QemuError)) return undefined;
  if (failed.code !== "QEMU_QMP_COMMAND_FAILED") throw failed;
  return failed.message;
}

describe.for(testQemus())("$name", ({ path, missing }) => {
  test.skipIf(missing !== "")("says about itself what is checked in, byte for byte", async ({ skip }) => {
    const { file, text } = await capture(path);
    const checkedIn = new URL(`../qmp-schema/${file}`, import.meta.url);
    skip(!existsSync(checkedIn), `${file} is not checked in: npm run generate -w @leveret/qemu-harness -- ${path}`);
    expect(readFileSync(checkedIn, "utf8") === text, file).toBe(true);
  });

  test.skipIf(missing !== "")("answers every query as its schema says, and events are typed", async () => {
    await using qemu = await connectEmptyQemu(path, { checked: true });
    const { schema, bit } = await versionOfClient(qemu.qmp);
    const answered: string[] = [];
    for (const [command, known] of schema.commands) {
      if (!command.startsWith("query-") || (known.versions & bit) === 0) continue;
      const code = await qemu.qmp.execute(command).then(
        () => "",
        (error: QemuError) => error.code,
      );
      if (code === "") answered.push(command);
      expect(["", "QEMU_QMP_BAD_ARGUMENTS", "QEMU_QMP_COMMAND_FAILED"], command).toContain(code);
    }
    expect(answered.length).toBeGreaterThan(40);
    const shutdown = qemu.qmp.once("SHUTDOWN");
    await qemu.qmp.execute("quit");
    expect((await shutdown).data).toEqual({ guest: false, reason: "host-qmp-quit" });
  });

  test.skipIf(missing !== "")("explains what it refuses, and is not asked with `checked`", async () => {
    for (const checked of [false, true]) {
      await using qemu = await connectEmptyQemu(path, { checked });
      const code = checked ? "QEMU_QMP_BAD_ARGUMENTS" : "QEMU_QMP_COMMAND_FAILED";
      const file = { driver: "file", filename: 5 };
      // @ts-expect-error: a file's name is text
      const wrong = await failure(qemu.qmp.execute("blockdev-add", { driver: "raw", file }));
      expect(wrong).toMatchObject({ code, issues: [{ path: "file.filename", message: "expected a string, got 5" }] });
      expect((await failure(qemu.qmp.execute("fly"))).code).toBe(code);
    }
  });

  test.skipIf(missing !== "")("names the version that a command or a part of it needs", async ({ skip }) => {
    await using qemu = await connectEmptyQemu(path);
    const { name } = await versionOfClient(qemu.qmp);
    skip(!(await knownSchema()).versions.includes(name), `QEMU ${name} is not known`);
    if (name === "7.2") {
      const late = await failure(qemu.qmp.execute("query-accelerators"));
      expect(late.hint).toBe("query-accelerators needs QEMU 11.1 or newer, this is 7.2");
      const capabilities = [{ capability: "mapped-ram", state: true }] as const;
      const lacking = await failure(qemu.qmp.execute("migrate-set-capabilities", { capabilities }));
      expect(lacking.hint).toBe('capabilities[0].capability: "mapped-ram" needs QEMU 10.0 or newer, this is 7.2');
    } else {
      const gone = await failure(qemu.qmp.execute("x-query-rdma"));
      expect(gone.hint).toBe(`x-query-rdma needs QEMU 7.2 or older, this is ${name}`);
    }
  });

  test.skipIf(missing !== "")("keeps every bit of an integer", async () => {
    await using qemu = await connectEmptyQemu(path);
    const exact = 2n ** 62n + 1n;
    await qemu.qmp.execute("object-add", { "qom-type": "iothread", id: "exact", "poll-max-ns": exact });
    expect((await qemu.qmp.execute("query-iothreads"))[0]?.["poll-max-ns"]).toBe(exact);
    expect(await qemu.qmp.execute("qom-get", { path: "/objects/exact", property: "poll-max-ns" })).toBe(exact);
  });

  test.skipIf(missing !== "")("answers out of band while other commands wait", async () => {
    await using qemu = await connectEmptyQemu(path);
    const order: string[] = [];
    const slow = [1, 2, 3, 4].map(() => qemu.qmp.execute("query-qmp-schema").then(() => order.push("schema")));
    await qemu.qmp.execute("query-yank", {}, { outOfBand: true }).then(() => order.push("yank"));
    await Promise.all(slow);
    expect(order.indexOf("yank")).toBeLessThan(4);
    const refused = await failure(qemu.qmp.execute("query-status" as string, {}, { outOfBand: true }));
    expect(refused.code).toBe("QEMU_QMP_COMMAND_FAILED");
  });

  test.skipIf(missing !== "")(`refuses what the validator refuses (seed ${seed})`, async () => {
    await using qemu = await connectEmptyQemu(path);
    const version = await versionOfClient(qemu.qmp);
    for (const [command, known] of version.schema.commands) {
      if ((known.versions & version.bit) === 0 || known.isOpen) continue;
      const cases = fc.sample(fc.tuple(valueFor(version, known.arguments), fc.nat(), fc.nat(2)), { seed, numRuns: 4 });
      for (const [args, pick, way] of cases) {
        const places = placesOf(args);
        const { path: at, value } = places[pick % places.length] ?? { path: [], value: args };
        const extended = typeof value === "object" && value !== null ? { ...value, "no such": 1 } : { "no such": 1 };
        const wrong = at.length === 0 || way === 0 ? extended : way === 1 ? undefined : [[]];
        const broken = replaced(args, at, wrong) as object;
        if (checkArguments(version, command, broken).length === 0) continue;
        const said = await refusal(qemu.qmp, command, broken);
        expect(said, `${command} ${renderArguments(command, broken)}`).toBeDefined();
      }
    }
  });

  test.skipIf(missing !== "")(`finds no fault with the form of what the validator accepts (seed ${seed})`, async () => {
    await using qemu = await connectEmptyQemu(path);
    const version = await versionOfClient(qemu.qmp);
    // Commands that reach nothing outside of this QEMU, whatever they are given.
    const harmless =
      /^(query-|qom-(get|list)|set-action|migrate-set-|block-dirty-bitmap|block-job|job-|blockdev-del|trace-)/;
    for (const [command, known] of version.schema.commands) {
      if ((known.versions & version.bit) === 0 || !harmless.test(command)) continue;
      for (const args of fc.sample(valueFor(version, known.arguments), { seed, numRuns: 5 })) {
        const said = (await refusal(qemu.qmp, command, args as object)) ?? "";
        expect(said, `${command} ${renderArguments(command, args as object)}`).not.toMatch(
          /is missing|is unexpected|expected: (string|boolean|array|object|dict)|does not accept value/,
        );
      }
    }
  });

  test.skipIf(missing !== "")(`reads and writes JSON as this client does (seed ${seed})`, async () => {
    await using qemu = startEmptyQemu(path);
    let text = "";
    const lines: string[] = [];
    qemu.stream.on("data", (chunk) => {
      text += chunk;
      lines.push(...text.split("\r\n").slice(0, -1));
      text = text.slice(text.lastIndexOf("\r\n") + 2);
    });
    const values = fc.sample(
      fc.oneof(
        fc.bigInt(-(2n ** 63n), 2n ** 64n - 1n).filter((value) => !Number.isSafeInteger(Number(value))),
        fc.maxSafeInteger(),
        fc.string({ unit: "binary" }).filter((value) => !/[\p{Surrogate}\p{Noncharacter_Code_Point}]/u.test(value)),
        fc.array(fc.constantFrom(null, true, "i1", "s", "é\u0000"), { maxLength: 3 }),
      ),
      { seed, numRuns: 200 },
    );
    for (const id of values) {
      // QEMU gives every reply the id of its command, whatever that is.
      qemu.stream.write(`{"execute":"no-such",${renderArguments("x", { id }).slice(1, -1)}}\n`);
    }
    await expect.poll(() => lines.length, { timeout: 20_000 }).toBe(values.length + 1);
    const ids = lines.slice(1).map((line) => (parseQmpJson(line) as { id?: unknown }).id);
    expect(ids).toEqual(values);
  });
});
