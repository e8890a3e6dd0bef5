import { type Duplex, duplexPair } from "node:stream";
import { beforeEach, describe, expect, test } from "vitest";
import { QemuError } from "../src/errors.ts";
import { type QemuErrorCode, SerialConsole } from "../src/index.ts";

let guest: Duplex;
let serial: SerialConsole;

beforeEach(() => {
  const [ours, theirs] = duplexPair();
  guest = theirs;
  serial = new SerialConsole({ input: ours, output: ours }, { name: "serial0", commandLine: "qemu -x" });
});

async function codeOf(promise: Promise<unknown>): Promise<QemuErrorCode | undefined> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  return error instanceof QemuError ? error.code : undefined;
}

function exited(): void {
  serial.end((details) => new QemuError("QEMU_EXITED", "gone", details));
}

describe("waitFor", () => {
  test("finds text that came before, that comes later and that comes in pieces", async () => {
    guest.write("one two");
    await serial.waitFor("one");
    const later = serial.waitFor("three");
    guest.write(" th");
    guest.write("ree");
    expect((await later).index).toBe(8);
  });

  test("begins behind the last match, from the start or from now, as asked", async () => {
    guest.write("a1 a2 ");
    expect((await serial.waitFor(/a\d/)).text).toBe("a1");
    expect((await serial.waitFor(/a\d/)).text).toBe("a2");
    expect((await serial.waitFor(/a\d/, { from: "start" })).text).toBe("a1");
    const now = serial.waitFor(/a\d/, { from: "now" });
    guest.write("a3 ");
    expect((await now).text).toBe("a3");
  });

  test("does not lose text between two waits that are started at once", async () => {
    const both = Promise.all([serial.waitFor("second"), serial.waitFor("first")]);
    guest.write("first second");
    expect((await both).map(({ index }) => index)).toEqual([6, 0]);
  });

  test("keeps its place after a timeout", async () => {
    guest.write("early ");
    expect(await codeOf(serial.waitFor("late", { timeoutMs: 20 }))).toBe("QEMU_CONSOLE_TIMEOUT");
    await serial.waitFor("early");
  });

  test("lets a match that reaches the end of the text grow", async () => {
    const found = serial.waitFor(/pcr: ([0-9a-f]+)/);
    guest.write("pcr: ab");
    await new Promise((resolve) => setTimeout(resolve, 20));
    guest.write("cd");
    await new Promise((resolve) => setTimeout(resolve, 20));
    guest.write("ef\n");
    expect((await found).groups).toEqual(["abcdef"]);
  });

  test("accepts a match at the end of the text once it is quiet, such as a prompt", async () => {
    guest.write("\r\nlogin: ");
    expect((await serial.waitFor(/^login: $/)).text).toBe("login: ");
  });

  test("gives groups and named groups, and does not touch the pattern", async () => {
    const pattern = /v(?<major>\d+)\.(\d+)?;/y;
    guest.write("xx v12.; ");
    const match = await serial.waitFor(pattern);
    expect(match).toMatchObject({ text: "v12.;", groups: ["12", undefined], named: { major: "12" }, index: 3 });
    expect(pattern.lastIndex).toBe(0);
  });

  test("says on timeout what it waited for, and shows the last 4 KiB and the command line", async () => {
    guest.write(`${"x".repeat(5000)}tail`);
    const error = await serial.waitFor(/never/, { timeoutMs: 30 }).catch((reason: QemuError) => reason);
    expect(error).toMatchObject({
      code: "QEMU_CONSOLE_TIMEOUT",
      waitedFor: "/never/",
      timeoutMs: 30,
      commandLine: "qemu -x",
      consoleTail: `${"x".repeat(4092)}tail`,
    });
  });

  test("is called off by its signal, also one that was given before", async () => {
    expect(await codeOf(serial.waitFor("x", { signal: AbortSignal.abort() }))).toBe("QEMU_ABORTED");
    expect(await codeOf(serial.waitFor("x", { signal: AbortSignal.timeout(10) }))).toBe("QEMU_ABORTED");
  });
});

describe("waitForAny", () => {
  test("says which pattern matched first in the text", async () => {
    const both = serial.waitForAny({ ok: "login:", refused: /Security Violation/ });
    guest.write("Security Violation\nlogin:");
    expect(await both).toMatchObject({ which: "refused", match: { index: 0 } });
  });
});

describe("a console whose machine ends", () => {
  test("gives waits what is there and fails the others at once", async () => {
    const growing = serial.waitFor(/status (\d+)/);
    const never = codeOf(serial.waitFor("never"));
    guest.write("status 12");
    await new Promise((resolve) => setTimeout(resolve, 10));
    exited();
    expect((await growing).groups).toEqual(["12"]);
    expect(await never).toBe("QEMU_EXITED");
    await serial.waitFor("status", { from: "start" });
    expect(await codeOf(serial.waitFor("later"))).toBe("QEMU_EXITED");
    expect(await codeOf(serial.write("x"))).toBe("QEMU_EXITED");
  });
});

describe("a flood", () => {
  test("is forgotten from its beginning, and its end is still found", async () => {
    const [ours, theirs] = duplexPair();
    const small = new SerialConsole({ input: ours, output: ours }, { name: "s", maxTranscriptChars: 200_000 });
    const found = small.waitFor(/END(\d)\n/);
    for (let i = 0; i < 100; i += 1) theirs.write(`${"x".repeat(9_999)}\n`);
    theirs.write("END1\n");
    expect((await found).index).toBe(1_000_000);
    expect(small.text.length).toBeLessThan(300_000);
    expect(await codeOf(small.waitFor("never", { from: "start", timeoutMs: 10 }))).toBe("QEMU_CONSOLE_TIMEOUT");
  });

  test("of single characters costs little", async () => {
    const found = serial.waitFor(/END\n/);
    // The processor's time: how long it takes depends on who else wants the processor.
    const before = process.cpuUsage();
    for (let i = 0; i < 20_000; i += 1) guest.write("x");
    guest.write("END\n");
    await found;
    const { user, system } = process.cpuUsage(before);
    expect((user + system) / 1000).toBeLessThan(5000);
  });
});

describe("typing", () => {
  test("ends a line with a carriage return", async () => {
    await serial.sendLine("reset -s");
    expect(String(guest.read())).toBe("reset -s\r");
  });

  test("fails when the guest does not read", async () => {
    const chunk = new Uint8Array(64 * 1024);
    expect(await codeOf(Promise.all([1, 2, 3].map(() => serial.write(chunk, { timeoutMs: 50 }))))).toBe(
      "QEMU_CONSOLE_TIMEOUT",
    );
  });
});
