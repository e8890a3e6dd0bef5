import { expectTypeOf, test } from "vitest";
import type { QmpArguments, QmpClient, QmpInteger, QmpReturn } from "../src/index.ts";

// Checked by the compiler; nothing of this runs.
declare const qmp: QmpClient;

test("commands are typed by their names", () => {
  expectTypeOf<QmpReturn<"query-status">["running"]>().toEqualTypeOf<boolean>();
  expectTypeOf<"running">().toExtend<QmpReturn<"query-status">["status"]>();
  expectTypeOf<QmpReturn<"query-block">[number]["device"]>().toEqualTypeOf<string>();
  expectTypeOf<QmpReturn<"query-memory-size-summary">["base-memory"]>().toEqualTypeOf<QmpInteger>();
  expectTypeOf<QmpArguments<"balloon">>().toEqualTypeOf<{ readonly value: QmpInteger }>();
});

test("what a version lacks or does without is optional", () => {
  // 7.2 alone has `singlestep`.
  expectTypeOf<QmpReturn<"query-status">["singlestep"]>().toEqualTypeOf<boolean | undefined>();
  expectTypeOf<Record<never, never>>().toExtend<QmpArguments<"query-dirty-rate">>();
});

test("unions are told apart by their tags", () => {
  type Disk = Extract<QmpArguments<"blockdev-add">, { driver: "file" }>;
  expectTypeOf<Disk["filename"]>().toEqualTypeOf<string>();
  const node: QmpArguments<"blockdev-add"> = { driver: "qcow2", file: { driver: "file", filename: "a" } };
  if (node.driver === "qcow2") expectTypeOf(node["node-name"]).toEqualTypeOf<string | undefined>();
});

test("calls are checked", () => {
  () => {
    expectTypeOf(qmp.execute("query-status")).resolves.toEqualTypeOf<QmpReturn<"query-status">>();
    expectTypeOf(qmp.execute("x-of-another-build", { anything: 1 })).resolves.toBeUnknown();
    const name: string = "some-command";
    expectTypeOf(qmp.execute(name)).resolves.toBeUnknown();
    void qmp.execute("device_add", { driver: "pci-testdev", addr: "5" });
    void qmp.execute("quit", {}, { timeoutMs: 5 });
    void qmp.execute("memsave", { val: 0xffff_ffff_8100_0000n, size: 4096, filename: "page" });
    void qmp.execute("query-yank", {}, { outOfBand: true });
    // @ts-expect-error: arguments are required
    void qmp.execute("balloon");
    // @ts-expect-error: of another type
    void qmp.execute("balloon", { value: "1" });
    // @ts-expect-error: no such argument
    void qmp.execute("balloon", { value: 1, unit: "MiB" });
    // @ts-expect-error: no such driver
    void qmp.execute("blockdev-add", { driver: "qcow9" });
    // @ts-expect-error: what belongs to another driver
    void qmp.execute("blockdev-add", { driver: "null-co", url: "about:blank" });
    // @ts-expect-error: cannot run out of band
    void qmp.execute("query-status", {}, { outOfBand: true });
  };
});

test("events are typed by their names", () => {
  () => {
    expectTypeOf(qmp.once("STOP")).resolves.toExtend<{ event: "STOP"; data: Readonly<Record<string, never>> }>();
    void qmp.once("SHUTDOWN", { where: ({ data }) => data.reason === "guest-reset" });
    // @ts-expect-error: no such reason
    void qmp.once("SHUTDOWN", { where: ({ data }) => data.reason === "guest-lunch" });
    void (async () => {
      for await (const { event, data } of qmp.events(["SHUTDOWN", "RTC_CHANGE"])) {
        if (event === "RTC_CHANGE") expectTypeOf(data.offset).toEqualTypeOf<QmpInteger>();
        else expectTypeOf(data.guest).toEqualTypeOf<boolean>();
      }
      for await (const { event, data } of qmp.events("OF_ANOTHER_BUILD")) {
        expectTypeOf(event).toEqualTypeOf<"OF_ANOTHER_BUILD">();
        expectTypeOf(data).toEqualTypeOf<Readonly<Record<string, unknown>>>();
      }
    });
  };
});
