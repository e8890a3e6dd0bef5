import { once } from "node:events";
import type { CommandIo } from "@leveret/command";
import { serveStdio } from "@modelcontextprotocol/server/stdio";
import { mcpServer } from "../mcp/server.ts";
import { type MachineFlags, machineOptions } from "./start.ts";

/** Serves a model on standard input and output until it goes away; machines run on then. */
export async function mcp(flags: MachineFlags & { readonly live?: true }, io: CommandIo): Promise<void> {
  const options = { ...machineOptions(flags, io), workspace: flags.live ? "live" : "isolated" } as const;
  const served = serveStdio(() => mcpServer(options), {
    onerror: ({ message }) => void io.stderr.write(`${message}\n`),
  });
  try {
    await once(process.stdin, "end", { signal: io.signal });
  } finally {
    await served.close();
  }
}
