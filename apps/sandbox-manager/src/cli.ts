import { type CommandIo, packageVersion, runCommand } from "@leveret/command";
import { Command } from "commander";

export { processIo } from "@leveret/command";

const HELP = `
Examples:
  leveret-sandbox start            a machine for this directory, and a shell in it
  leveret-sandbox exec -- npm test run something in this directory's machine
  leveret-sandbox url 3000         where its port 3000 is on this host
  leveret-sandbox ls               all that run
  leveret-sandbox stop             end it`;

const collect = (value: string, before: readonly string[] = []): readonly string[] => [...before, value];
const example = (line: string): string => `\nExample:\n  ${line}`;

/**
 * Runs the `leveret-sandbox` command.
 *
 * @param argv - Arguments after the program's name.
 * @param io - Streams, environment, working directory and abort signal.
 * @returns The exit code: 0 done, 1 failed, 2 wrong usage, 128 and its number for a signal; that of the program for
 *   `exec` and shells.
 */
export async function main(argv: readonly string[], io: CommandIo): Promise<number> {
  let ofProgram = 0;
  const program = new Command("leveret-sandbox")
    .version(packageVersion(import.meta.url), "--version", "print the version")
    .description("An isolated machine for the current project")
    .enablePositionalOptions()
    .addHelpText("after", HELP);

  addMachineOptions(program.command("start"))
    .description("start this directory's machine, or find it; with a terminal, open a shell in it")
    .argument("[name]", "vm-1, vm-2 …; the first that is free unless given")
    .option("--new", "one more, although this directory has one")
    .option("--isolated", "keep what is changed in the workspace apart from this directory, until apply")
    .option("--no-shell", "open no shell")
    .option("--json", "print one JSON document")
    .addHelpText("after", example("leveret-sandbox start --new --allow-preset npm --allow api.example.org"))
    .action(async (name, flags) => {
      ofProgram = await (await import("./commands/start.ts")).start(name, flags, io);
    });
  program
    .command("exec")
    .description("run a program in a machine, as if it ran here")
    .option("-n, --name <name>", "which; this directory's unless given")
    .argument("<command...>", "program and arguments; no shell sees them")
    .passThroughOptions()
    .addHelpText("after", example("leveret-sandbox exec -- sh -c 'npm ci && npm test'"))
    .action(async (command, flags) => {
      ofProgram = await (await import("./commands/others.ts")).exec(flags.name, command, io);
    });
  program
    .command("shell")
    .description("open a shell in a machine")
    .argument("[name]", "which; this directory's unless given")
    .addHelpText("after", example("leveret-sandbox shell vm-2"))
    .action(async (name) => {
      ofProgram = await (await import("./commands/others.ts")).exec(name, ["/bin/bash", "-l"], io);
    });
  program
    .command("ls")
    .description("list the machines that run")
    .option("--json", "print one JSON document")
    .addHelpText("after", example("leveret-sandbox ls"))
    .action(async (flags) => (await import("./commands/others.ts")).list(flags, io));
  program
    .command("ports")
    .description("list the ports that something listens on in a machine")
    .argument("[name]", "which; this directory's unless given")
    .option("--json", "print one JSON document")
    .addHelpText("after", example("leveret-sandbox ports"))
    .action(async (name, flags) => (await import("./commands/others.ts")).ports(name, flags, io));
  program
    .command("logs")
    .description("print what a machine's console and its supervisor have said, also when it has ended")
    .argument("[name]", "which; this directory's unless given")
    .addHelpText("after", example("leveret-sandbox logs vm-1"))
    .action(async (name) => (await import("./commands/others.ts")).logs(name, io));
  program
    .command("url")
    .description("where a port of a machine is on this host")
    .argument("<port>", "what something listens on inside")
    .option("-n, --name <name>", "which; this directory's unless given")
    .addHelpText("after", example("curl $(leveret-sandbox url 3000)"))
    .action(async (port, flags) => (await import("./commands/others.ts")).url(port, flags, io));
  program
    .command("cp")
    .description("copy a file or a directory into a machine, or out of one")
    .argument("<from>", "a path here, or vm-1:PATH inside; :PATH for this directory's machine")
    .argument("<to>", "the same; below it, if it is a directory")
    .option("--json", "print one JSON document")
    .addHelpText("after", example("leveret-sandbox cp :/var/log/build.log ."))
    .action(async (from, to, flags) => (await import("./commands/cp.ts")).cp(from, to, flags, io));
  program
    .command("diff")
    .description("print what an isolated workspace has changed, as a patch")
    .argument("[path...]", "files and directories; all unless given")
    .option("-n, --name <name>", "which machine; this directory's unless given")
    .option("--stat", "print names only")
    .option("--json", "print one JSON document")
    .addHelpText("after", example("leveret-sandbox diff | git apply --check"))
    .action(async (paths, flags) => (await import("./commands/changes.ts")).diff(paths, flags, io));
  program
    .command("apply")
    .description("bring what an isolated workspace has changed into this directory")
    .argument("[path...]", "files and directories; all that is not held back unless given")
    .option("-n, --name <name>", "which machine; this directory's unless given")
    .option("--force", "also what this directory has changed since the machine was started")
    .option("--json", "print one JSON document")
    .addHelpText("after", example("leveret-sandbox apply src test"))
    .action(async (paths, flags) => (await import("./commands/changes.ts")).apply(paths, flags, io));
  program
    .command("fork")
    .description("make copies of a machine with an isolated workspace, which go on side by side")
    .argument("[name]", "which; this directory's unless given")
    .option("-n, --count <count>", "how many", "1")
    .option("--json", "print one JSON document")
    .addHelpText("after", example("leveret-sandbox fork vm-1 -n 4"))
    .action(async (name, flags) => {
      ofProgram = await (await import("./commands/copies.ts")).fork(name, flags, io);
    });
  program
    .command("race")
    .description("run the same in copies of a machine with an isolated workspace, keep the best one, end the others")
    .option("-n, --count <count>", "how many", "4")
    .option("--judge <line>", "a line of shell: out where it fails, and the last number it prints is the score")
    .option("--name <name>", "which machine; this directory's unless given")
    .option("--json", "print one JSON document")
    .argument("<command...>", "program and arguments; RACE_NUMBER says which copy it is in")
    .passThroughOptions()
    .addHelpText("after", example("leveret-sandbox race -n 4 --judge 'npm test' -- ./attempt.sh"))
    .action(async (command, flags) => {
      ofProgram = await (await import("./commands/race.ts")).race(command, flags, io);
    });
  program
    .command("checkpoint")
    .description("keep a machine with an isolated workspace as it is, until it ends")
    .argument("[name]", "which; this directory's unless given")
    .option("--list", "print those there are, and make none")
    .option("--remove <checkpoint>", "remove one, and make none")
    .option("--json", "print one JSON document")
    .addHelpText("after", example("leveret-sandbox checkpoint"))
    .action(async (name, flags) => (await import("./commands/copies.ts")).checkpoint(name, flags, io));
  program
    .command("rewind")
    .description("make a machine what it was at a checkpoint")
    .argument("<checkpoint>", "what checkpoint printed")
    .option("-n, --name <name>", "which machine; this directory's unless given")
    .option("--json", "print one JSON document")
    .addHelpText("after", example("leveret-sandbox rewind 1"))
    .action(async (id, flags) => (await import("./commands/copies.ts")).rewind(id, flags, io));
  addNet(program, io, (exitCode) => {
    ofProgram = exitCode;
  });
  program
    .command("stop")
    .description("end a machine, and everything in it")
    .argument("[name]", "which; this directory's unless given")
    .option("--discard", "also what an isolated workspace has changed and nobody has applied")
    .option("--json", "print one JSON document")
    .addHelpText("after", example("leveret-sandbox stop vm-2"))
    .action(async (name, flags) => (await import("./commands/others.ts")).stop(name, flags, io));

  addMachineOptions(program.command("mcp"))
    .description("serve a coding agent on standard input and output: tools for this directory's machines (MCP)")
    .option("--live", "let it change this directory itself; without, people apply what it has changed")
    .addHelpText("after", example("leveret-sandbox mcp --allow-preset npm"))
    .action(async (flags) => (await import("./commands/mcp.ts")).mcp(flags, io));
  program
    .command("prove")
    .description(
      "try to get out of a machine as it is, with its rules and its workspace; exit code 1 when something does",
    )
    .argument("[name]", "which; this directory's unless given")
    .option("--json", "print one JSON document")
    .addHelpText("after", example("leveret-sandbox prove"))
    .action(async (name, flags) => {
      ofProgram = await (await import("./commands/prove.ts")).prove(name, flags, io);
    });
  program
    .command("doctor")
    .description("say what machines need, what of it is missing, and how to get it")
    .option("--json", "print one JSON document")
    .addHelpText("after", example("leveret-sandbox doctor"))
    .action(async (flags) => (await import("./commands/doctor.ts")).doctor(flags, io));
  program
    .command("prune")
    .description("remove what machines have left: templates that were not used today, and what ended ones have said")
    .option("--all", "also templates that were used today; the next start makes them again")
    .option("--dry-run", "say what would be removed, and remove nothing")
    .option("--json", "print one JSON document")
    .addHelpText("after", example("leveret-sandbox prune --dry-run"))
    .action(async (flags) => (await import("./commands/prune.ts")).prune(flags, io));

  const exitCode = await runCommand(program, argv, io);
  return exitCode === 0 ? ofProgram : exitCode;
}

/** What a machine is to be like. */
function addMachineOptions(command: Command): Command {
  return command
    .option("--allow <rule>", "a host that can be reached, such as *.example.org:443; again for more", collect)
    .option("--deny <rule>", "a host that cannot, although something allows it; again for more", collect)
    .option("--allow-preset <name>", "what net presets lists: npm, github …; again for more", collect)
    .option("--secret <secret>", "NAME=env:VARIABLE@HOST or NAME=file:PATH@HOST; again for more", collect)
    .option("--rules <file>", 'a file with { "allow": [], "deny": [], "presets": [], "secrets": [] }', collect)
    .option("--learn", "allow all public hosts, and note which are used: net rules --used")
    .option("--memory <MiB>", "memory (default: 1024)")
    .option("--cpus <count>", "processors (default: 2)")
    .option("--image <directory>", "another guest: a directory with os.config.ts and its lock");
}

function addNet(program: Command, io: CommandIo, onExit: (exitCode: number) => void): void {
  const commands = async () => import("./commands/net.ts");
  const net = program.command("net").description("what a machine may reach, and what it has tried to");
  net
    .command("log")
    .description("list what a machine has tried to reach, and what came of it")
    .argument("[name]", "which; this directory's unless given")
    .option("--json", "print one JSON document")
    .addHelpText("after", example("leveret-sandbox net log"))
    .action(async (name, flags) => (await commands()).log(name, flags, io));
  net
    .command("why")
    .description("say whether a machine can reach a host, and why; exit code 1 when it cannot")
    .argument("<host[:port]>", "port 443 unless given")
    .argument("[method]", "of a request; without it, whether there is any that may be")
    .argument("[path]", "of a request", "/")
    .option("-n, --name <name>", "which machine; this directory's unless given")
    .option("--json", "print one JSON document")
    .addHelpText("after", example("leveret-sandbox net why api.example.org GET /v1/users"))
    .action(async (where, method, target, flags) => {
      const request = method === undefined ? undefined : { method, target };
      onExit(await (await commands()).why(where, request, flags, io));
    });
  for (const verb of ["allow", "deny"] as const) {
    const what = verb === "allow" ? "let a machine reach more" : "let a machine reach less; what is open is closed";
    net
      .command(verb)
      .description(`${what}, at once`)
      .argument("<rule...>", "[tcp://]HOST[:PORT][=ADDRESS[:PORT]], then maybe METHOD,… and /PATH/*")
      .option("-n, --name <name>", "which machine; this directory's unless given")
      .option("--json", "print one JSON document")
      .addHelpText("after", example(`leveret-sandbox net ${verb} 'api.example.org GET /v1/*' '*.example.net:8443'`))
      .action(async (rules, flags) => (await commands()).change(verb, rules, flags, io));
  }
  net
    .command("secret")
    .description("give a machine a secret, or another value of it; the machine itself sees a placeholder")
    .argument("<secret...>", "NAME=env:VARIABLE@HOST[:PORT][/PATH][,HOST…] or NAME=file:PATH@…")
    .option("-n, --name <name>", "which machine; this directory's unless given")
    .addHelpText("after", example("pass show api | leveret-sandbox net secret TOKEN=file:/dev/stdin@api.example.org"))
    .action(async (secrets, flags) => (await commands()).secret(secrets, flags, io));
  net
    .command("rules")
    .description("print the rules of a machine, as start --rules takes them")
    .argument("[name]", "which; this directory's unless given")
    .option("--used", "the narrowest that allow what was reached so far")
    .addHelpText("after", example("leveret-sandbox net rules --used > rules.json"))
    .action(async (name, flags) => (await commands()).rules(name, flags, io));
  net
    .command("presets")
    .description("list the presets of start --allow-preset")
    .option("--json", "print one JSON document")
    .addHelpText("after", example("leveret-sandbox net presets"))
    .action(async (flags) => (await commands()).presets(flags, io));
}
