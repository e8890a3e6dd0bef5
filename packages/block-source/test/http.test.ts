import type { ServerResponse } from "node:http";
import { describe, expect, test } from "vitest";
import { isHttpUrl } from "../src/http.ts";
import { type HttpSettings, httpSources } from "../src/index.ts";
import { type Behaviour, partOf, startServer } from "./server.ts";

/** Says that a request was answered. */
function answered(_: ServerResponse): "handled" {
  return "handled";
}

class HttpError extends Error {
  readonly code: string;
  constructor(code: string, message: string, facts: object) {
    super(message);
    this.code = code;
    Object.assign(this, facts);
  }
}

const open = httpSources((kind, message, facts) => new HttpError(kind, message, facts));
const SETTINGS: HttpSettings = { headers: {}, timeoutMs: 5000, maxCacheBytes: 1024 * 1024 };
const CHUNK = 128 * 1024;

function noise(length: number): Uint8Array {
  let state = 7;
  return new Uint8Array(length).map(() => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 24;
  });
}

const BYTES = noise(20 * CHUNK + 77);

function isSame(a: Uint8Array, start: number, end: number): boolean {
  return Buffer.compare(a, BYTES.subarray(start, end)) === 0;
}

async function failing(behaviour: Behaviour, settings: Partial<HttpSettings> = {}): Promise<unknown> {
  const { url } = await startServer(BYTES, behaviour);
  const opened = await open(url, { ...SETTINGS, ...settings }).catch((error: unknown) => error);
  if (opened instanceof Error) return opened;
  await using source = opened as Awaited<ReturnType<typeof open>>;
  return await source.read(5 * CHUNK, 100).catch((error: unknown) => error);
}

describe("a source on a web server", () => {
  test("reads what is there, in any order and size", async () => {
    const { url, asked } = await startServer(BYTES);
    await using source = await open(url, SETTINGS);
    expect(source.sizeBytes).toBe(BYTES.byteLength);
    const ranges = [
      [0, 10],
      [CHUNK - 5, CHUNK + 5],
      [BYTES.byteLength - 7, BYTES.byteLength],
      [100, 100],
      [3 * CHUNK, 6 * CHUNK + 1],
      [0, BYTES.byteLength],
      [7 * CHUNK + 1, 7 * CHUNK + 2],
    ] as const;
    for (const [start, end] of ranges) expect(isSame(await source.read(start, end - start), start, end)).toBe(true);
    for (const { headers } of asked) expect(headers["accept-encoding"]).toBe("identity");
    expect(asked[1]?.headers["if-range"]).toBe('"one"');
  });

  test("asks for more the longer somebody reads on, and for nothing twice", async () => {
    const { url, asked } = await startServer(BYTES);
    await using source = await open(url, { ...SETTINGS, maxCacheBytes: 32 * CHUNK });
    for (let at = 0; at < BYTES.byteLength; at += 1000) {
      const length = Math.min(1000, BYTES.byteLength - at);
      expect(isSame(await source.read(at, length), at, at + length)).toBe(true);
    }
    expect(asked.length).toBeLessThan(8);
    const seen = asked.reduce((sum, { start, end }) => sum + Math.min(end, BYTES.byteLength) - start, 0);
    expect(seen).toBe(BYTES.byteLength);
    await source.read(5, 5);
    expect(asked.length).toBeLessThan(8);
  });

  test("asks once for what many read at the same time, and for single pieces of what is read at random", async () => {
    const { url, asked } = await startServer(BYTES);
    await using source = await open(url, SETTINGS);
    await Promise.all(Array.from({ length: 20 }, (_, index) => source.read(9 * CHUNK + index, 100)));
    expect(asked.length).toBe(2);
    await source.read(3 * CHUNK, 1);
    expect(asked[2]).toMatchObject({ start: 3 * CHUNK, end: 4 * CHUNK });
  });

  test("keeps no more than it may", async () => {
    const { url, asked } = await startServer(BYTES);
    await using source = await open(url, { ...SETTINGS, maxCacheBytes: 0 });
    for (let round = 0; round < 3; round += 1) {
      for (let number = 19; number >= 0; number -= 2) await source.read(number * CHUNK, 1);
      for (let number = 18; number >= 0; number -= 2) await source.read(number * CHUNK, 1);
    }
    expect(asked.length).toBeGreaterThan(40);
  });

  test("may be empty", async () => {
    const { url } = await startServer(new Uint8Array(0));
    await using source = await open(url, SETTINGS);
    expect(source.sizeBytes).toBe(0);
    expect(await source.read(0, 0)).toEqual(new Uint8Array(0));
    await expect(source.read(0, 1)).rejects.toMatchObject({ code: "truncated" });
  });

  test.each<[string, string, Behaviour]>([
    ["a missing file", "not-found", (_, response) => answered(response.writeHead(404).end())],
    ["a server that fails", "http", (_, response) => answered(response.writeHead(500).end("no"))],
    ["a server that ignores ranges", "http", (_, response) => answered(response.writeHead(200).end(BYTES))],
    [
      "a server that never stops sending",
      "http",
      (asked, response) => {
        response.writeHead(206, partOf(BYTES, asked).headers);
        const send = (): void => {
          if (!response.destroyed && response.write(new Uint8Array(65_536))) setImmediate(send);
          else response.once("drain", send);
        };
        send();
        return "handled";
      },
    ],
    [
      "a part without its place",
      "http",
      (asked, response) => answered(response.writeHead(206).end(partOf(BYTES, asked).body)),
    ],
    [
      "a place that is none",
      "http",
      (asked, response) => {
        response.writeHead(206, { "content-range": "bytes 5-2/9007199254740993" }).end(partOf(BYTES, asked).body);
        return "handled";
      },
    ],
    [
      "another part",
      "http",
      (asked, response, count) => {
        if (count === 1) return "honest";
        const { headers, body } = partOf(BYTES, { ...asked, start: asked.start - 1, end: asked.end - 1 });
        response.writeHead(206, headers).end(body);
        return "handled";
      },
    ],
    [
      "a part that is compressed",
      "http",
      (asked, response) => {
        const { headers, body } = partOf(BYTES, asked);
        response.writeHead(206, { ...headers, "content-encoding": "x-own" }).end(body);
        return "handled";
      },
    ],
    [
      "a part that ends early",
      "truncated",
      (asked, response, count) => {
        if (count === 1) return "honest";
        const { headers, body } = partOf(BYTES, asked);
        response.writeHead(206, headers).end(body.subarray(0, 1000));
        return "handled";
      },
    ],
    [
      "a connection that breaks",
      "io",
      (asked, response, count) => {
        if (count === 1) return "honest";
        const { headers, body } = partOf(BYTES, asked);
        response.writeHead(206, { ...headers, "content-length": `${body.byteLength}` });
        response.write(body.subarray(0, 1000), () => response.destroy());
        return "handled";
      },
    ],
    [
      "a file with another tag",
      "changed",
      (asked, response, count) => {
        if (count === 1) return "honest";
        const { headers, body } = partOf(BYTES, asked);
        response.writeHead(206, { ...headers, etag: '"two"' }).end(body);
        return "handled";
      },
    ],
    [
      "a file of another length",
      "changed",
      (asked, response, count) => {
        if (count === 1) return "honest";
        const { headers, body } = partOf(BYTES, asked);
        const range = `bytes ${asked.start}-${asked.end - 1}/${BYTES.byteLength + 1}`;
        response.writeHead(206, { ...headers, "content-range": range }).end(body);
        return "handled";
      },
    ],
    [
      "a file whose other version is sent whole",
      "changed",
      (_, response, count) => (count === 1 ? "honest" : answered(response.writeHead(200).end(BYTES))),
    ],
    [
      "a file that has become shorter",
      "changed",
      (_, response, count) => (count === 1 ? "honest" : answered(response.writeHead(416).end())),
    ],
    ["a redirection in circles", "http", (_, response) => answered(response.writeHead(302, { location: "/" }).end())],
  ])("refuses %s", async (_, code, behaviour) => {
    const error = await failing(behaviour);
    expect(error).toMatchObject({ code });
    expect((error as Error).message).not.toContain("secret");
  });

  test("waits no longer than it may, also for a server that sends a byte now and then", async () => {
    expect(await failing(() => "handled", { timeoutMs: 100 })).toMatchObject({ code: "timeout" });
    const slow: Behaviour = (asked, response, count) => {
      if (count === 1) return "honest";
      response.writeHead(206, partOf(BYTES, asked).headers);
      const timer = setInterval(() => response.write("x"), 20);
      response.on("close", () => clearInterval(timer));
      return "handled";
    };
    expect(await failing(slow, { timeoutMs: 200 })).toMatchObject({ code: "timeout", offset: 5 * CHUNK });
  });

  test("stops at once when it is told to, and when it is closed", async () => {
    const controller = new AbortController();
    const silent: Behaviour = (_, __, count) => (count === 1 ? "honest" : "handled");
    const { url } = await startServer(BYTES, silent);
    const source = await open(url, { ...SETTINGS, signal: controller.signal });
    const reading = source.read(5 * CHUNK, 1);
    controller.abort("enough");
    await expect(reading).rejects.toBe("enough");
    await expect(source.read(6 * CHUNK, 1)).rejects.toBe("enough");
    const other = await open((await startServer(BYTES, silent)).url, SETTINGS);
    const waiting = other.read(5 * CHUNK, 1);
    await other.close();
    await expect(waiting).rejects.toMatchObject({ code: "http" });
    await other.close();
  });

  test("asks again for what failed once", async () => {
    const { url } = await startServer(BYTES, (_, response, count) =>
      count === 2 ? answered(response.writeHead(503).end()) : "honest",
    );
    await using source = await open(url, SETTINGS);
    await expect(source.read(5 * CHUNK, 10)).rejects.toMatchObject({ code: "http" });
    expect(isSame(await source.read(5 * CHUNK, 10), 5 * CHUNK, 5 * CHUNK + 10)).toBe(true);
  });

  test("sends the headers it was given", async () => {
    const { url, asked } = await startServer(BYTES);
    await using source = await open(url, { ...SETTINGS, headers: { authorization: "Bearer of-news" } });
    expect(source.sizeBytes).toBe(BYTES.byteLength);
    expect(asked[0]?.headers.authorization).toBe("Bearer of-news");
  });

  test.each(["ftp://example.org/x", "http://", "http://user:hidden@127.0.0.1/x", "file:///etc/passwd"])(
    "does not open %s",
    async (url) => {
      const error = await open(url, SETTINGS).catch((reason: unknown) => reason);
      expect(error).toMatchObject({ code: "http" });
      expect((error as Error).message).not.toContain("hidden");
    },
  );

  test("is told from a path", () => {
    expect(["http://a/b", "HTTPS://a", "http:/a", "./http://a"].map(isHttpUrl)).toEqual([true, true, false, false]);
  });
});

describe("a redirection", () => {
  const redirectTo =
    (location: string): Behaviour =>
    (_, response) => {
      response.writeHead(302, { location }).end();
      return "handled";
    };
  const secrets = { authorization: "Bearer hare", "x-api-key": "hare" };

  test("to another server is followed without the headers that were given for this one", async () => {
    const other = await startServer(BYTES);
    const { url, asked } = await startServer(BYTES, redirectTo(other.url));
    await using source = await open(url, { ...SETTINGS, headers: secrets });
    expect(isSame(await source.read(3 * CHUNK, 77), 3 * CHUNK, 3 * CHUNK + 77)).toBe(true);
    for (const { headers } of asked) expect(headers).toMatchObject(secrets);
    expect(other.asked.length).toBe(asked.length);
    for (const { headers } of other.asked) {
      expect([headers.authorization, headers["x-api-key"]]).toEqual([undefined, undefined]);
    }
  });

  test("to the same server is followed with them", async () => {
    const { url, asked } = await startServer(BYTES, (_, response, count) => {
      if (count % 2 === 0) return "honest";
      response.writeHead(307, { location: "/elsewhere" }).end();
      return "handled";
    });
    await using source = await open(url, { ...SETTINGS, headers: secrets });
    expect(source.sizeBytes).toBe(BYTES.byteLength);
    expect(asked).toHaveLength(2);
    for (const { headers } of asked) expect(headers).toMatchObject(secrets);
  });

  test.each(["ftp://127.0.0.1/image", "http://ann:hare@127.0.0.1/image", "http://", "file:///etc/passwd"])(
    "to %s is refused",
    async (location) => {
      expect(await failing(redirectTo(location))).toMatchObject({ code: "http" });
    },
  );
});
