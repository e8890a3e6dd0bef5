// What a QEMU program says about its own protocol, in the form that is checked in: one line for each command, event and
// type, sorted, with QEMU's own numbers for types.
import { spawn } from "node:child_process";

/** Asks `program` for its schema; the answer is a file's name and text. */
export async function capture(program) {
  const { version, entities } = await introspect(program);
  return { file: `qemu-${version}.json`, text: renderCapture(version, entities) };
}

function introspect(program) {
  const args = ["-machine", "none", "-nodefaults", "-no-user-config", "-display", "none", "-qmp", "stdio"];
  const qemu = spawn(program, args, { stdio: ["pipe", "pipe", "inherit"] });
  return new Promise((resolve, reject) => {
    let text = "";
    let version;
    qemu.stdout.setEncoding("utf8").on("data", (chunk) => {
      text += chunk;
      for (let end = text.indexOf("\n"); end !== -1; end = text.indexOf("\n")) {
        const message = JSON.parse(text.slice(0, end));
        text = text.slice(end + 1);
        if (message.QMP !== undefined) {
          const { major, minor } = message.QMP.version.qemu;
          version = `${major}.${minor}`;
          const commands = [{ execute: "qmp_capabilities" }, { execute: "query-qmp-schema", id: "schema" }];
          for (const command of [...commands, { execute: "quit" }]) qemu.stdin.write(`${JSON.stringify(command)}\n`);
        } else if (message.id === "schema") {
          resolve({ version, entities: message.return });
        }
      }
    });
    qemu.once("error", reject);
    qemu.once("close", (code) => reject(new Error(`expected a schema of ${program}, got its end with ${code}`)));
  });
}

function renderCapture(version, entities) {
  const byName = (a, b) => (a.name < b.name ? -1 : 1);
  const lines = (wanted, render) =>
    entities
      .filter((entity) => wanted(entity["meta-type"]))
      .sort(byName)
      .map((entity) => `${JSON.stringify(entity.name)}:${JSON.stringify(render(entity))}`)
      .join(",\n");
  return `{"version":${JSON.stringify(version)},
"commands":{
${lines((meta) => meta === "command", withoutName)}
},
"events":{
${lines((meta) => meta === "event", withoutName)}
},
"types":{
${lines((meta) => meta !== "command" && meta !== "event", typeOf)}
}}
`;
}

function withoutName({ name: _, "meta-type": __, ...rest }) {
  return rest;
}

// `values` says again what `members` says, for programs written before QEMU 6.2.
function typeOf({ name: _, values: __, ...rest }) {
  return rest;
}
