import { packageVersion } from "@leveret/command";
import { type CallToolResult, McpServer } from "@modelcontextprotocol/server";
import * as z from "zod";
import { formatPatch } from "../changes/patch.ts";
import { expectNoChanges } from "../changes/unapplied.ts";
import { SandboxError } from "../errors.ts";
import { excerptOf } from "../excerpt.ts";
import { listSandboxes, projectDirectory } from "../find.ts";
import type { Environment } from "../places.ts";
import type { Sandbox } from "../sandbox.ts";
import { type SandboxStartOptions, startSandbox } from "../start.ts";
import type { SandboxState } from "../state.ts";
import { runLine } from "./run.ts";

/** Most of one text that a model gets, in characters. */
const MAX_TEXT = 64 * 1024;
/** Most that a file may have to be read, in `bytes`. */
const MAX_FILE_BYTES = 1024 * 1024;
const DEFAULT_TIMEOUT_S = 120;
const MAX_TIMEOUT_S = 3600;
const SECOND_MS = 1000;
const MAX_FORKS = 16;

/** What machines a model gets: everything that decides about the host was decided before it says anything. */
export interface McpOptions extends Omit<SandboxStartOptions, "name" | "another" | "signal" | "onProgress"> {
  /** the project */
  readonly directory: string;
  readonly workspace: SandboxState["workspace"];
  readonly env: Environment;
}

const name = z.string().optional().describe("vm-1, vm-2 …; the project's own machine unless given");
const path = z.string().describe("absolute, or from /workspace on");

/**
 * The tools of one project for a model. They reach the machines of that project, and of the host nothing: changes of an
 * isolated workspace are brought back, rules are changed and secrets are given by people only.
 *
 * @see Model Context Protocol, "Tools"
 */
export function mcpServer(options: McpOptions): McpServer {
  const server = new McpServer(
    { name: "leveret-sandbox", version: packageVersion(import.meta.url) },
    {
      instructions:
        "Linux machines of the current project, whose files are at /workspace. You are root there and may do anything. " +
        "Call start first. The network refuses what no rule allows, and says so; the user can change the rules.",
    },
  );
  const { env } = options;

  /** Machines of other projects are none of the model's, nor one that the project's own directory is in, unless it may. */
  const machines = async (): Promise<Sandbox[]> => {
    const directory = await projectDirectory(options.directory);
    return (await listSandboxes({ env })).filter(
      ({ state }) => state.directory === directory && state.workspace === options.workspace,
    );
  };
  const find = async (wanted: string | undefined): Promise<Sandbox> => {
    const all = await machines();
    const names = all.map((each) => each.name).join(", ") || "none";
    if (wanted !== undefined) {
      const found = all.find((each) => each.name === wanted);
      if (found !== undefined) return found;
      throw new SandboxError(
        "SANDBOX_NOT_FOUND",
        `expected one of the project's machines, got ${wanted}; there are ${names}`,
      );
    }
    const originals = all.filter(({ state }) => state.forkOf === undefined);
    const [sandbox, ...others] = originals.length > 0 ? originals : all;
    if (sandbox === undefined) throw new SandboxError("SANDBOX_NOT_FOUND", "expected a machine, got none: call start");
    if (others.length === 0) return sandbox;
    throw new SandboxError("SANDBOX_AMBIGUOUS", `expected the name of one of ${names}, got none`);
  };

  server.registerTool(
    "start",
    {
      description: "Start this project's machine, or find it",
      inputSchema: z.object({ another: z.boolean().default(false).describe("one more, although there is one") }),
    },
    async ({ another }, { mcpReq: { signal } }) =>
      answer(async () => summary(await startSandbox({ ...options, another, signal }))),
  );
  server.registerTool(
    "list",
    { description: "List this project's machines", annotations: { readOnlyHint: true } },
    async () => answer(async () => (await machines()).map(summary)),
  );
  server.registerTool(
    "exec",
    {
      description: "Run a line of /bin/sh in a machine, to its end",
      inputSchema: z.object({
        command: z.string().min(1),
        name,
        cwd: z.string().optional().describe("default /workspace"),
        timeoutSeconds: z.number().int().min(1).max(MAX_TIMEOUT_S).default(DEFAULT_TIMEOUT_S),
      }),
    },
    async ({ command, cwd, timeoutSeconds, ...machine }, { mcpReq: { signal } }) =>
      answer(async () => {
        const timeoutMs = timeoutSeconds * SECOND_MS;
        return runLine(await find(machine.name), { command, cwd, timeoutMs, maxOutput: MAX_TEXT, signal });
      }),
  );
  server.registerTool(
    "read_file",
    {
      description: "Read a file of text in a machine",
      inputSchema: z.object({ path, name }),
      annotations: { readOnlyHint: true },
    },
    async ({ path, ...machine }, { mcpReq: { signal } }) =>
      answer(async () => {
        const bytes = await (await find(machine.name)).files.read(path, { maxBytes: MAX_FILE_BYTES, signal });
        return textOf(bytes, path);
      }),
  );
  server.registerTool(
    "write_file",
    {
      description: "Write a file of text in a machine, and the directories that it needs",
      inputSchema: z.object({ path, content: z.string(), name }),
    },
    async ({ path, content, ...machine }, { mcpReq: { signal } }) =>
      answer(async () => {
        await (await find(machine.name)).files.write(path, content, { signal });
        return `wrote ${path}`;
      }),
  );
  server.registerTool(
    "ports",
    {
      description: "List what listens in a machine, and where that is on the host",
      inputSchema: z.object({ name }),
      annotations: { readOnlyHint: true },
    },
    async (machine) =>
      answer(async () => {
        const sandbox = await find(machine.name);
        return (await sandbox.ports()).map((port) => ({ port, url: sandbox.url(port) }));
      }),
  );
  server.registerTool(
    "network_log",
    {
      description: "List what a machine has tried to reach, and why it was refused",
      inputSchema: z.object({ name }),
      annotations: { readOnlyHint: true },
    },
    async (machine) => answer(async () => (await (await find(machine.name)).net.report()).log),
  );
  server.registerTool(
    "fork",
    {
      description: "Copy a running machine with its memory, programs and files; the copies go on side by side",
      inputSchema: z.object({ count: z.number().int().min(1).max(MAX_FORKS).default(1), name }),
    },
    async ({ count, ...machine }, { mcpReq: { signal } }) =>
      answer(async () =>
        (await (await find(machine.name)).fork(count, { signal })).map((result) =>
          result.status === "fulfilled" ? summary(result.value) : { error: described(result.reason) },
        ),
      ),
  );
  server.registerTool(
    "checkpoint",
    { description: "Keep a machine as it is, to go back to it with rewind", inputSchema: z.object({ name }) },
    async (machine, { mcpReq: { signal } }) =>
      answer(async () => ({ checkpoint: await (await find(machine.name)).checkpoint({ signal }) })),
  );
  server.registerTool(
    "rewind",
    {
      description: "Make a machine what it was at a checkpoint; everything since then is lost",
      inputSchema: z.object({ checkpoint: z.string(), name }),
      annotations: { destructiveHint: true },
    },
    async ({ checkpoint, ...machine }, { mcpReq: { signal } }) =>
      answer(async () => {
        await (await find(machine.name)).rewind(checkpoint, { signal });
        return `it is what it was at ${checkpoint}`;
      }),
  );
  server.registerTool(
    "diff",
    {
      description: "Show what was changed in /workspace as a patch; the user brings it into the project with apply",
      inputSchema: z.object({ paths: z.array(z.string()).default([]), name }),
      annotations: { readOnlyHint: true },
    },
    async ({ paths, ...machine }, { mcpReq: { signal } }) =>
      answer(async () => {
        const { differences } = await (await find(machine.name)).diff({ paths, signal });
        return excerptOf(formatPatch(differences), MAX_TEXT) || "nothing was changed";
      }),
  );
  server.registerTool(
    "stop",
    {
      description: "End a machine, and everything in it",
      inputSchema: z.object({
        discard: z.boolean().default(false).describe("also changes that nobody has applied"),
        name,
      }),
      annotations: { destructiveHint: true },
    },
    async ({ discard, ...machine }) =>
      answer(async () => {
        const sandbox = await find(machine.name);
        if (!discard) await expectNoChanges(sandbox);
        await sandbox.stop();
        return `${sandbox.name} has ended`;
      }),
  );
  return server;
}

function summary({ name, address, state: { workspace, forkOf } }: Sandbox): object {
  return { name, address, workspace, ...(forkOf === undefined ? {} : { forkOf }) };
}

function textOf(bytes: Uint8Array, path: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new SandboxError("SANDBOX_FILE", `expected text in UTF-8, got other bytes in ${path}`, { path, cause });
  }
}

/** What a tool says: what came of it, or why nothing did, for the model to go on with. */
async function answer(run: () => Promise<unknown>): Promise<CallToolResult> {
  try {
    const result = await run();
    return { content: [{ type: "text", text: typeof result === "string" ? result : JSON.stringify(result) }] };
  } catch (error) {
    return { content: [{ type: "text", text: JSON.stringify({ error: described(error) }) }], isError: true };
  }
}

function described(error: unknown): object {
  const { code, message, hint } = error as Partial<SandboxError>;
  return { code, message: message ?? String(error), hint };
}
