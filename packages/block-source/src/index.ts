export { type AtomicFiles, type AtomicWriteOptions, atomicFiles, syncDirectory } from "./atomic-file.ts";
export type { BlockSource, ByteSink, DisposableBlockSource } from "./block-source.ts";
export { isZero, viewOf } from "./bytes.ts";
export { type FileErrorKind, type FileErrors, ioErrors, type ReportFileError } from "./errors.ts";
export { type FileLockOptions, lockOpenFile } from "./file-lock.ts";
export { handleSink } from "./handle-sink.ts";
export {
  type HttpErrorKind,
  type HttpSettings,
  httpSources,
  type OpenHttp,
  type ReportHttpError,
} from "./http.ts";
export {
  DEFAULT_HTTP_TIMEOUT_MS,
  DEFAULT_MAX_HTTP_CACHE_BYTES,
  type HttpSourceOptions,
  httpSourceOptions,
} from "./http-options.ts";
export { type InPlaceFile, inPlaceFiles, type OpenInPlace } from "./in-place.ts";
export { type InputOptions, inputs, type OpenInput } from "./input.ts";
export { type PackageFiles, packageFiles } from "./package-files.ts";
export { type Sources, sources } from "./sources.ts";
export { type OpenStream, type ReadWhole, type ReadWholeOptions, streamFiles, wholeFiles } from "./whole-file.ts";
