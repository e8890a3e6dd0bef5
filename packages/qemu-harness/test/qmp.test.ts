import { type Duplex, duplexPair } from "node:stream";
import { describe, expect, test } from "vitest";
import { QemuError, QmpClient, type QmpOptions } from "../src/index.ts";
import { failure } from "./failure.ts";

const GREETING =
  '{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}, "capabilities": ["oob"]}}\r\n';
const EVENT = '{"timestamp": {"seconds": 10, "microseconds": 5}, "event": "STOP", "data": {"a": 1}}\r\n';

/** A QEMU that answers every command with what `answer` returns for it. */
function fakeQemu(answer: (command: { execute: string; id: number }) => string): { stream: Duplex; qemu: Duplex } {
  const [stream, qemu] = duplexPair();
  let text = "";
  qemu.on("data", (chunk) => {
    text += chunk;
    for (let end = text.indexOf("\n"); end !== -1; end = text.indexOf("\n")) {
      if (qemu.writable) qemu.write(answer(JSON.parse(text.slice(0, end))));
      text = text.slice(end + 1);
    }
  });
  return { stream, qemu };
}

const polite = ({ id }: { id: number }): string => `{"return": {}, "id": ${id}}\n`;

async function connected(
  answer: (command: { execute: string; id: number }) => string = polite,
  options: QmpOptions = {},
): Promise<{ client: QmpClient; qemu: Duplex }> {
  const { stream, qemu } = fakeQemu((command) =>
    command.execute === "qmp_capabilities" ? polite(command) : answer(command),
  );
  qemu.write(GREETING);
  return { client: await QmpClient.connect(stream, options), qemu };
}

describe("connecting", () => {
  test("tolerates events before the greeting and before the reply", async () => {
    const { stream, qemu } = fakeQemu((command) => EVENT + polite(command) + EVENT);
    qemu.write(EVENT + GREETING);
    const client = await QmpClient.connect(stream);
    const version = { major: 7, minor: 2, micro: 22 };
    expect(client.greeting).toEqual({ version, package: "Debian", capabilities: ["oob"] });
  });

  test("works with one byte at a time", async () => {
    const { stream, qemu } = fakeQemu(polite);
    const connecting = QmpClient.connect(stream);
    for (const byte of Buffer.from(EVENT + GREETING)) qemu.write(Uint8Array.of(byte));
    expect((await connecting).greeting.package).toBe("Debian");
  });

  test("fails without a greeting in time, with a closed stream, and by its signal", async () => {
    expect((await failure(QmpClient.connect(fakeQemu(polite).stream, { timeoutMs: 20 }))).code).toBe(
      "QEMU_QMP_TIMEOUT",
    );
    const { stream, qemu } = fakeQemu(polite);
    qemu.end();
    expect((await failure(QmpClient.connect(stream))).code).toBe("QEMU_QMP_CLOSED");
    const signal = AbortSignal.abort();
    expect((await failure(QmpClient.connect(fakeQemu(polite).stream, { signal }))).code).toBe("QEMU_ABORTED");
  });

  test.for(["hello\n", "[]\n", "1\n", "null\n", '{"QMP": \n'])("refuses %j", async (line) => {
    const { stream, qemu } = fakeQemu(polite);
    qemu.write(line);
    expect((await failure(QmpClient.connect(stream))).code).toBe("QEMU_QMP_PROTOCOL");
    expect(stream.destroyed).toBe(true);
  });

  test("refuses a line that nests deeper than the parser's stack", async () => {
    const { stream, qemu } = fakeQemu(polite);
    qemu.write(`${"[".repeat(100_000)}\n`);
    expect((await failure(QmpClient.connect(stream))).code).toBe("QEMU_QMP_PROTOCOL");
  });

  test("refuses a line that does not end", async () => {
    const { stream, qemu } = fakeQemu(polite);
    const connecting = failure(QmpClient.connect(stream, { maxLineBytes: 1000 }));
    for (let i = 0; i < 11; i += 1) qemu.write("x".repeat(100));
    expect((await connecting).code).toBe("QEMU_QMP_PROTOCOL");
  });

  test("meets every truncation and every changed byte of a session with an answer or its own error, in time", async () => {
    const opening = EVENT + GREETING;
    const session = Buffer.from(`${opening}{"return": {}, "id": 1}\r\n`);
    const inputs: Uint8Array[] = [];
    for (let i = 0; i < session.length; i += 1) {
      inputs.push(session.subarray(0, i));
      for (const flip of [0x01, 0x20, 0x80]) {
        const changed = Buffer.from(session);
        changed[i] = (changed[i] ?? 0) ^ flip;
        inputs.push(changed);
      }
    }
    const outcomes = await Promise.all(
      inputs.map(async (input) => {
        const [stream, qemu] = duplexPair();
        qemu.resume();
        qemu.write(input.subarray(0, opening.length));
        // The reply is only one once the command was sent.
        setTimeout(() => qemu.end(input.subarray(opening.length)), 20);
        return QmpClient.connect(stream, { timeoutMs: 5000 }).then(
          () => "connected",
          (error) => (error instanceof QemuError ? error.code : `escaped: ${error}`),
        );
      }),
    );
    expect([...new Set(outcomes)].sort()).toEqual(["QEMU_QMP_CLOSED", "QEMU_QMP_PROTOCOL", "connected"]);
  });
});

describe("commands", () => {
  test("get their own replies, in whatever order these come", async () => {
    const held: string[] = [];
    const { client, qemu } = await connected(({ execute, id }) => {
      held.unshift(`{"return": "${execute}", "id": ${id}}\n`);
      return held.length === 2 ? `${EVENT}{"return": "stray", "id": 999}\n{"error": {}}\n` : "";
    });
    const replies = Promise.all([client.execute("a"), client.execute("b")]);
    await new Promise((resolve) => setTimeout(resolve, 10));
    qemu.write(held.join(""));
    expect(await replies).toEqual(["a", "b"]);
  });

  test("are explained from the schema when QEMU refuses them", async () => {
    const { client } = await connected(
      ({ id }) => `{"id": ${id}, "error": {"class": "GenericError", "desc": "Parameter 'filter' is unexpected"}}\n`,
    );
    const error = await failure(client.execute("query-dirty-rate", { "calc-time-unit": "second" }));
    expect(error.issues).toEqual([{ path: "calc-time-unit", message: "needs QEMU 10.0 or newer, this is 7.2" }]);
    expect(error.hint).toBe("calc-time-unit: needs QEMU 10.0 or newer, this is 7.2");
    expect((await failure(client.execute("query-status"))).hint).toBeUndefined();
  });

  test("are not sent when JSON cannot carry their arguments", async () => {
    const { client } = await connected(() => "never asked");
    const error = await failure(client.execute("x", { a: [1, { b: Number.NaN }], c: 2 ** 60, d: "\ud800" }));
    expect(error.code).toBe("QEMU_QMP_BAD_ARGUMENTS");
    expect(error.issues?.map(({ path }) => path)).toEqual(["a[1].b", "c", "d"]);
  });

  test("run out of band only where QEMU offers that", async () => {
    const sent: string[] = [];
    const { client } = await connected((command) => {
      sent.push(JSON.stringify(command));
      return polite(command);
    });
    await client.execute("query-yank", {}, { outOfBand: true });
    expect(sent).toEqual(['{"exec-oob":"query-yank","arguments":{},"id":2}']);
    const { stream, qemu } = fakeQemu(polite);
    qemu.write(GREETING.replace('"oob"', ""));
    const plain = await QmpClient.connect(stream);
    expect((await failure(plain.execute("query-yank", {}, { outOfBand: true }))).code).toBe("QEMU_QMP_NO_OUT_OF_BAND");
  });

  test("fail with QEMU's class and text", async () => {
    const { client } = await connected(
      ({ id }) => `{"id": ${id}, "error": {"class": "CommandNotFound", "desc": "The command x has not been found"}}\n`,
    );
    const error = await failure(client.execute("x"));
    expect(error).toMatchObject({ code: "QEMU_QMP_COMMAND_FAILED", qmpClass: "CommandNotFound" });
    expect(error.message).toContain("The command x has not been found");
  });

  test("fail after their own limit or signal, and the late reply is ignored", async () => {
    const { client, qemu } = await connected(({ execute, id }) => (execute === "slow" ? "" : polite({ id })));
    expect((await failure(client.execute("slow", {}, { timeoutMs: 20 }))).code).toBe("QEMU_QMP_TIMEOUT");
    expect((await failure(client.execute("slow", {}, { signal: AbortSignal.timeout(10) }))).code).toBe("QEMU_ABORTED");
    qemu.write('{"return": {}, "id": 2}\n');
    expect(await client.execute("quick")).toEqual({});
  });

  test("fail when the connection ends, before and after", async () => {
    const { client, qemu } = await connected(() => "");
    const pending = failure(client.execute("a"));
    const event = failure(client.once("STOP"));
    qemu.end();
    expect([(await pending).code, (await event).code]).toEqual(["QEMU_QMP_CLOSED", "QEMU_QMP_CLOSED"]);
    expect((await failure(client.execute("b"))).code).toBe("QEMU_QMP_CLOSED");
    client.close();
    client.close();
  });
});

describe("integers", () => {
  test("beyond 2^53 are bigints, all others numbers", async () => {
    const { client, qemu } = await connected(
      ({ id }) =>
        `{"return": {"a": [9007199254740991, 9007199254740993, -9223372036854775808], "s": "9007199254740993", "i": "i\\"1", "18446744073709551615": 1.25000000000000000}, "id": ${id}}\n`,
    );
    const event = client.once("GUEST_PANICKED");
    qemu.write('{"event": "GUEST_PANICKED", "data": {"info": {"type": "hyper-v", "arg1": 18446744073709551615}}}\n');
    expect(await client.execute("x")).toEqual({
      a: [9007199254740991, 9007199254740993n, -(2n ** 63n)],
      s: "9007199254740993",
      i: 'i"1',
      "18446744073709551615": 1.25,
    });
    expect((await event).data.info).toEqual({ type: "hyper-v", arg1: 2n ** 64n - 1n });
  });
});

describe("events", () => {
  test("are waited for by name and by content", async () => {
    const { client, qemu } = await connected();
    const any = client.once("STOP");
    const second = client.once("STOP", { where: ({ data }) => data.a === 2 });
    qemu.write(EVENT + EVENT.replace('"a": 1', '"a": 2'));
    expect(await any).toEqual({ event: "STOP", data: { a: 1 }, timestampUs: 10_000_005 });
    expect((await second).data).toEqual({ a: 2 });
    const limited = failure(client.once("NEVER", { timeoutMs: 20 }));
    expect(await limited).toMatchObject({ code: "QEMU_QMP_TIMEOUT", waitedFor: "the event NEVER" });
  });

  test("are iterated over until the connection or the consumer ends", async () => {
    const { client, qemu } = await connected();
    const all = client.events();
    const first = client.events();
    qemu.write(EVENT + EVENT);
    await new Promise((resolve) => setTimeout(resolve, 10));
    for await (const { event } of first) {
      expect(event).toBe("STOP");
      break;
    }
    qemu.end();
    const names: string[] = [];
    for await (const { event } of all) names.push(event);
    expect(names).toEqual(["STOP", "STOP"]);
  });

  test("are iterated over by name, from one or several", async () => {
    const { client, qemu } = await connected();
    const stops = client.events("STOP");
    const both = client.events(["STOP", "RESUME"]);
    qemu.write(EVENT + EVENT.replace("STOP", "RESUME") + EVENT.replace("STOP", "RESET"));
    await new Promise((resolve) => setTimeout(resolve, 10));
    qemu.end();
    const names = async (events: AsyncIterable<{ event: string }>): Promise<string[]> => {
      const seen: string[] = [];
      for await (const { event } of events) seen.push(event);
      return seen;
    };
    expect([await names(stops), await names(both)]).toEqual([["STOP"], ["STOP", "RESUME"]]);
  });

  test("do not pile up without limit for a consumer that sleeps", async () => {
    const { client, qemu } = await connected();
    const events = client.events({ maxQueued: 3 });
    qemu.write(EVENT.repeat(5));
    await new Promise((resolve) => setTimeout(resolve, 10));
    const seen: string[] = [];
    const error = await failure(
      (async () => {
        for await (const { event } of events) seen.push(event);
      })(),
    );
    expect([seen.length, error.code]).toEqual([3, "QEMU_QMP_OVERFLOW"]);
  });
});
