import { gunzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { agentCredentialNames, agentCredentials } from "../src/agent/credentials.ts";
import { planMachine, resolveMachine } from "../src/index.ts";
import { readAgent } from "../src/initrd.ts";
import { missingAgent } from "./agent-built.ts";

const qemu = {
  path: "/bin/true",
  version: { major: 7, minor: 2, micro: 0 },
  versionText: "QEMU emulator version 7.2.0",
};
const firmware = { codePath: "code", variablesPath: "variables" };

test("a machine that boots an image is given the agent as credentials, through files", async () => {
  const boot = { type: "uefi", firmware } as const;
  const { argv, fds } = await planMachine(
    { boot, agent: true, credentials: { own: "secret" } },
    { qemu, accelerator: "tcg" },
  );
  expect(fds.credentials).toHaveLength(4);
  expect(argv.filter((each) => each.startsWith("type=11,path=/dev/fd/"))).toHaveLength(4);
  expect(argv.join(" ")).not.toMatch(/secret|leveret-agent/);
  expect(agentCredentialNames(resolveMachine({ boot, agent: false }))).toEqual([]);
  const direct = { type: "kernel", kernelPath: "k" } as const;
  expect(agentCredentialNames(resolveMachine({ boot: direct, agent: true }))).toEqual([]);
});

test("a credential of the agent's name is refused", () => {
  const credentials = { "leveret.agent": "mine" };
  expect(() => resolveMachine({ boot: { type: "bios" }, agent: true, credentials })).toThrow("comes with one");
});

test.skipIf(missingAgent() !== "")("the agent comes as it was built, and takes little room", async () => {
  const credentials = await agentCredentials();
  expect(Object.keys(credentials)).toEqual(
    agentCredentialNames(resolveMachine({ boot: { type: "bios" }, agent: true })),
  );
  const program = Buffer.from(credentials["leveret.agent"] ?? "");
  expect(program.length).toBeLessThan(16 * 1024);
  expect(gunzipSync(program)).toEqual(Buffer.from(await readAgent()));
});
