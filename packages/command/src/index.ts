export { type InputFlags, withInputOptions } from "./input-options.ts";
export { type CommandIo, Interruption, type OutputStream, processIo } from "./io.ts";
export { type Progress, type ProgressEvent, startProgress, withProgress } from "./progress.ts";
export {
  type ExitCodes,
  type JsonEnvelope,
  packageVersion,
  renderJson,
  runCommand,
  UsageError,
  writeJson,
  writeJsonLine,
} from "./run.ts";
export { countText, escapeName, escapeText, formatBytes, formatDuration, markedLines, style, table } from "./text.ts";
