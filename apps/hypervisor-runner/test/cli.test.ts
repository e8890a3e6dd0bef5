import { describe, expect, test } from "vitest";
import { leveretHv } from "./support.ts";

describe("leveret-hv", () => {
  test("says what it is and does", async () => {
    expect(await leveretHv("--version")).toEqual({ exitCode: 0, out: "0.0.0\n", err: "" });
    const { exitCode, out } = await leveretHv("run", "--help");
    expect(exitCode).toBe(0);
    expect(out).toMatch(/^Usage: leveret-hv run .*--kernel <file>.*Examples:/s);
  });

  test.each([
    [["run"], /--kernel/],
    [["run", "--kernel", "k", "--cpus", "many"], /--cpus: expected a number of processors, got "many"/],
    [["run", "--kernel", "k", "--memory", "1T"], /--memory: expected a size such as 512M or 2G, got "1T"/],
    [["run", "--kernel", "k", "--forward", "8080:80"], /--forward: expected --net with it, got none/],
    [["run", "--kernel", "k", "--net", "user", "--forward", "80"], /--forward: expected two ports/],
    [["run", "--kernel", "k", "--net", "bridge"], /Allowed choices are user, isolated/],
  ])("calls %j wrong usage", async (argv, message) => {
    expect(await leveretHv(...argv)).toMatchObject({ exitCode: 2, err: expect.stringMatching(message) });
  });
});
