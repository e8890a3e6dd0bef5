import { type CommandIo, type ExitCodes, packageVersion, runCommand } from "@leveret/command";
import { Command, Option } from "commander";
import { probe } from "./commands/probe.ts";
import { type QmpFlags, qmp } from "./commands/qmp.ts";
import { parseSeconds, type RunFlags, run } from "./commands/run.ts";
import { type ScreenshotFlags, screenshot } from "./commands/screenshot.ts";
import {
  type ForkFlags,
  listTemplates,
  type MakeFlags,
  makeTemplate,
  removeTemplates,
  runTemplate,
} from "./commands/template.ts";

export { processIo } from "@leveret/command";

/**
 * Runs the command line.
 *
 * @param argv - Arguments without the program.
 * @param io - Streams, environment, working directory and signal.
 * @returns Exit code: 0 done, 1 failed, 2 wrong usage, 128 and its number for a signal.
 */
export async function main(argv: readonly string[], io: CommandIo): Promise<number> {
  const program = new Command("qemu-harness")
    .version(packageVersion(import.meta.url), "--version", "print the version")
    .description("Start, drive and test QEMU machines");
  program
    .command("probe")
    .description("say which QEMU, firmware and TPM emulator are there, and whether KVM works")
    .option("--fresh", "run the KVM probe again although its answer is known")
    .option("--json", "print one JSON document")
    .addHelpText("after", "\nExample:\n  $ qemu-harness probe\n")
    .action((flags: { fresh?: boolean; json?: boolean }) => probe(flags, io));
  program
    .command("run")
    .description("run a machine; its first console is shown on standard output")
    .argument("<description>", "JSON file with a machine description; relative paths start from its directory")
    .option("--until <pattern>", "end the machine when this regular expression appears on the console")
    .option("--timeout <seconds>", "fail when that, or the machine's own end, takes longer", parseSeconds)
    .addOption(acceleratorOption())
    .option("--timeline <picture>", "SVG file to write: what the boot spent its time with, as the consoles tell")
    .option("--plan", "print the QEMU command line and start nothing")
    .option("--json", "print one JSON document, with the console's text in it")
    .addHelpText("after", RUN_EXAMPLES)
    .action((path: string, flags: RunFlags) => run(path, flags, io));
  program
    .command("qmp")
    .description("run one QMP command in a machine and print what it returns; or show what commands take and return")
    .argument("[words...]", "description, command, and its arguments as a JSON object; with --schema only a name")
    .option("--schema", "show a command or an event, as far as QEMU 7.2, 10.0 and 11.1 know it; without a name, all")
    .option("--until <pattern>", "first wait until this regular expression appears on the console")
    .option("--timeout <seconds>", "how long that, and the command, may take", parseSeconds)
    .addOption(acceleratorOption())
    .option("--json", "print one JSON document")
    .addHelpText("after", QMP_EXAMPLES)
    .action((words: string[], flags: QmpFlags) => qmp(words, flags, io));
  program
    .command("screenshot")
    .description("start a machine, wait, and write what its display shows to a PNG file")
    .argument("<description>", "JSON file with a machine description; graphics are added to it")
    .argument("<picture>", "PNG file to write")
    .option("--until <pattern>", "wait until this regular expression appears on the console")
    .option("--text <pattern>", "wait until this regular expression can be read on the display, by tesseract")
    .option("--timeout <seconds>", "how long each of these may take, 120 unless given", parseSeconds)
    .addOption(acceleratorOption())
    .option("--json", "print one JSON document, with what was read on the display")
    .addHelpText("after", SCREENSHOT_EXAMPLES)
    .action((path: string, picture: string, flags: ScreenshotFlags) => screenshot(path, picture, flags, io));
  const codes = { done: 0, failed: 1 };
  addTemplate(program, io, codes);
  return runCommand(program, argv, io, codes);
}

function addTemplate(program: Command, io: CommandIo, codes: ExitCodes): void {
  const template = program
    .command("template")
    .description("boot a machine once, keep it as it is then, and continue it as often as you like")
    .addHelpText("after", TEMPLATE_EXAMPLES);
  template
    .command("make")
    .description("start a machine, wait until it is ready, and keep it; what is there already is found again")
    .argument("<description>", "JSON file with a machine description")
    .argument("[directory]", "directory to keep it in, which may not exist; default: the cache")
    .option("--until <pattern>", "it is ready when this regular expression appears on the console")
    .option("--key <text>", "makes it another template than one of the same machine with another key")
    .option("--timeout <seconds>", "how long the machine may take, 600 unless given", parseSeconds)
    .addOption(acceleratorOption())
    .option("--json", "print one JSON document")
    .addHelpText("after", TEMPLATE_EXAMPLES)
    .action((path: string, place: string | undefined, flags: MakeFlags) => makeTemplate(path, place, flags, io));
  template
    .command("list")
    .description("show the templates of the cache, the most recently used first")
    .option("--json", "print one JSON document, with everything that each is bound to")
    .action((flags: { json?: boolean }) => listTemplates(flags, io));
  template
    .command("run")
    .description("continue a template as a machine of its own, and run a program in it or show its console")
    .argument("<template>", "its directory, or the first digits of its name in the cache")
    .argument("[program...]", "program for the agent to run, and its arguments; behind -- when they have flags")
    .option("--until <pattern>", "end the machine when this regular expression appears on the console")
    .option("--timeout <seconds>", "fail when that, or the program, takes longer", parseSeconds)
    .option("--json", "print one JSON document")
    .addHelpText("after", TEMPLATE_EXAMPLES)
    .action((name: string, words: string[], flags: ForkFlags) => runTemplate(name, words, flags, io, codes));
  template
    .command("remove")
    .description("remove templates of the cache; whoever has one open keeps it")
    .argument("[templates...]", "the first digits of their names")
    .option("--all", "remove all of them")
    .option("--json", "print one JSON document")
    .action((names: string[], flags: { all?: boolean; json?: boolean }) => removeTemplates(names, flags, io));
}

function acceleratorOption(): Option {
  return new Option("--accelerator <name>", "how guest code is run").choices(["auto", "kvm", "tcg"]).default("auto");
}

const RUN_EXAMPLES = `
Examples:
  $ echo '{ "boot": { "type": "uefi" } }' > machine.json
  $ qemu-harness run machine.json --until 'UEFI Interactive Shell' --timeout 60
  $ qemu-harness run machine.json --until login: --timeline boot.svg
  $ qemu-harness run machine.json --plan
`;

const QMP_EXAMPLES = `
Examples:
  $ qemu-harness qmp machine.json query-status
  $ qemu-harness qmp machine.json human-monitor-command '{ "command-line": "info mtree" }' --until login:
  $ qemu-harness qmp --schema migrate-set-capabilities
  $ qemu-harness qmp --schema blockdev-add qcow2     # with what that driver adds
`;

const SCREENSHOT_EXAMPLES = `
Examples:
  $ qemu-harness screenshot machine.json shell.png --text 'Interactive Shell'
  $ qemu-harness screenshot machine.json login.png --until login:
`;

const TEMPLATE_EXAMPLES = `
Examples:
  $ qemu-harness template make machine.json --until login:     # a second time it is there already
  $ qemu-harness template list
  $ qemu-harness template run 3f2a -- uname -r                 # in a machine with an agent
  $ qemu-harness template make machine.json ./booted --until login:
  $ qemu-harness template run ./booted --until 'link is up'
`;
