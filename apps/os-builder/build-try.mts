import { loadProject, lockProject, readLock, buildArtefacts } from "/work/main/apps/os-builder/src/index.ts";
import { openNix, findDebianMirror } from "@leveret/nix-gen";
const project = await loadProject(process.argv[2] ?? "/work/main/examples/particle");
const stateDirectory = project.directory + "/.leveret";
const t0 = Date.now();
const onProgress = (e) => { if (process.env.V) console.log(JSON.stringify(e)); };
let lock;
try { lock = await readLock(project); } catch (e) { console.log(e.message); lock = await lockProject(project, { env: process.env, stateDirectory, onProgress }); }
console.log("lock", Date.now() - t0);
const nix = await openNix({ env: process.env });
const t = Date.now();
const a = await buildArtefacts(project, { nix, lock, mirror: await findDebianMirror({ env: process.env }), stateDirectory, onProgress });
console.log("built", Date.now() - t, Object.fromEntries(Object.entries(a).map(([k, v]) => [k, nix.realPath(v)])));
