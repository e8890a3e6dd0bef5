import { type AtomicFiles, atomicFiles } from "./atomic-file.ts";
import { type FileErrorKind, type FileErrors, ioErrors, type ReportFileError } from "./errors.ts";
import { type HttpErrorKind, httpSources, type OpenHttp, type ReportHttpError } from "./http.ts";
import { inPlaceFiles, type OpenInPlace } from "./in-place.ts";
import { inputs, type OpenInput } from "./input.ts";
import { type Sources, sources } from "./sources.ts";
import { type OpenStream, type ReadWhole, streamFiles, wholeFiles } from "./whole-file.ts";

/** Everything a package does with files, with its own errors. */
export interface PackageFiles {
  readonly files: Sources;
  /** turns a failure of `node:fs` into the package's error; anything else, such as an abort, passes unchanged */
  readonly ioError: FileErrors;
  readonly atomic: AtomicFiles;
  readonly openInPlace: OpenInPlace;
  readonly openStream: OpenStream;
  readonly readWhole: ReadWhole;
  readonly openHttp: OpenHttp;
  readonly openInput: OpenInput;
}

/** The error class of a package. */
type ErrorClass<Code> = new (code: Code, message: string, facts: Parameters<ReportFileError>[2]) => Error;

/**
 * Makes the file functions of one package.
 *
 * @param PackageError - Its error class.
 * @param codes - Its code for each thing that can go wrong with a file.
 */
export function packageFiles<Code>(
  PackageError: ErrorClass<Code>,
  codes: Readonly<Record<FileErrorKind | HttpErrorKind, Code>>,
): PackageFiles {
  const report: ReportHttpError = (kind, message, facts) => new PackageError(codes[kind], message, facts);
  return {
    files: sources(report),
    ioError: ioErrors(report),
    atomic: atomicFiles(report),
    openInPlace: inPlaceFiles(report),
    openStream: streamFiles(report),
    readWhole: wholeFiles(report),
    openHttp: httpSources(report),
    openInput: inputs(report),
  };
}
