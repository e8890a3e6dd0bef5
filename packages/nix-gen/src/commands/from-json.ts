import { createReadStream } from "node:fs";
import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { buffer } from "node:stream/consumers";
import { type CommandIo, writeJson } from "@leveret/command";
import { Command } from "commander";
import { NixGenError } from "../errors.ts";
import { reasonOf } from "../internal/text.ts";
import { parseJson } from "../json.ts";
import { renderNix } from "../print/render.ts";

const STANDARD_INPUT = 0;

const HELP = `
Keeps what builtins.fromJSON loses: integers of 64 bits, every digit of a float, and an error for what Nix can't hold.

Examples:
  $ nix-gen from-json package.json > package.nix
  $ echo '{"a": "\${b}"}' | nix-gen from-json -`;

/** `nix-gen from-json FILE`: JSON to a Nix expression. */
export function fromJsonCommand(io: CommandIo): Command {
  return new Command("from-json")
    .description("print a JSON file as a Nix expression")
    .argument("<file>", "the JSON file, or - for standard input")
    .option("--json", "print one JSON document with the expression in it")
    .addHelpText("after", HELP)
    .action(async (file: string, options: { json?: true }) => {
      const code = renderNix(parseJson(await readText(file, io)));
      if (options.json === true) writeJson(io, { kind: "nix-gen.expression", version: 1, expression: code });
      else io.stdout.write(code);
    });
}

async function readText(file: string, io: CommandIo): Promise<string> {
  const utf8 = new TextDecoder("utf-8", { fatal: true });
  try {
    if (file === "-") return utf8.decode(await buffer(createReadStream("", { fd: STANDARD_INPUT, signal: io.signal })));
    return utf8.decode(await readFile(resolve(io.cwd, file), { signal: io.signal }));
  } catch (cause) {
    if (io.signal.aborted) throw cause;
    throw new NixGenError("NIX_GEN_IO", `expected a readable file in UTF-8, got ${reasonOf(cause)}`, {
      path: file,
      cause,
    });
  }
}
