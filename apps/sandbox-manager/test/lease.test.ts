import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { takeLease } from "../src/lease.ts";
import { nameOf, numberOf } from "../src/names.ts";
import { openPlaces, type Places } from "../src/places.ts";

let directory = "";
let places: Places;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "sandbox-lease-"));
  places = await openPlaces({ XDG_STATE_HOME: directory, XDG_RUNTIME_DIR: directory, XDG_CACHE_HOME: directory });
});
afterAll(() => rm(directory, { recursive: true }));

describe("leases", () => {
  test("go to the first name that is free, and end with the file", async () => {
    const first = await takeLease(places);
    const second = await takeLease(places);
    expect([first, second].map(({ name, address }) => [name, address])).toEqual([
      ["vm-1", "127.0.1.1"],
      ["vm-2", "127.0.1.2"],
    ]);
    await expect(takeLease(places, 2)).rejects.toMatchObject({ code: "SANDBOX_NONE_FREE" });
    await first.file.close();
    const again = await takeLease(places);
    expect(again.name).toBe("vm-1");
    await Promise.all([again.file.close(), second.file.close()]);
  });

  test("of many at once are all different", async () => {
    const leases = await Promise.all(Array.from({ length: 8 }, () => takeLease(places)));
    expect(new Set(leases.map(({ name }) => name)).size).toBe(8);
    await Promise.all(leases.map(({ file }) => file.close()));
  });
});

describe("places", () => {
  test("are below the home when a variable is empty or relative", async () => {
    const variables = { XDG_STATE_HOME: "", XDG_RUNTIME_DIR: directory, XDG_CACHE_HOME: "cache" };
    expect(await openPlaces({ HOME: directory, ...variables })).toEqual({
      machines: join(directory, ".local/state/leveret/sandbox"),
      journals: join(directory, ".local/state/leveret/sandbox-applies"),
      sockets: join(directory, "leveret-sandbox"),
      cache: join(directory, ".cache/leveret/sandbox"),
    });
  });
});

describe("names", () => {
  test("are numbers with or without what is before them", () => {
    expect([numberOf("vm-7"), numberOf("7"), numberOf("250")]).toEqual([7, 7, 250]);
    expect(nameOf(7)).toBe("vm-7");
  });

  test.each(["", "0", "vm-0", "vm-", "251", "7a", "-1", "vm-01", "1e2", "../vm-1"])("refuses %j", (text) => {
    expect(() => numberOf(text)).toThrow(/expected a sandbox such as vm-1/);
  });
});
