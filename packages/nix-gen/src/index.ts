// errors

export { NixGenError, type NixGenErrorCode, type NixGenErrorDetails } from "./errors.ts";

// expressions: values and text

export { block, concatText, path, source, str } from "./expression/text.ts";
export { float, int, type NixInput, nix } from "./expression/value.ts";
export { DEFAULT_MAX_DEPTH, DEFAULT_MAX_NODES, isNixExpr, type NixExpr } from "./internal/node.ts";
export { parseJson } from "./json.ts";

// expressions: attribute sets and scopes

export {
  type AttrPath,
  attrs,
  type Binding,
  type Bindings,
  bind,
  comment,
  inherit,
  inheritFrom,
  letIn,
  recAttrs,
} from "./expression/bindings.ts";

// expressions: variables, functions, operators

export {
  assertThat,
  builtin,
  call,
  has,
  ifElse,
  lambda,
  negate,
  not,
  op,
  type Pattern,
  ref,
  select,
  withScope,
} from "./expression/syntax.ts";
export type { BinaryOperator } from "./internal/node.ts";

// printing

export { DEFAULT_LINE_WIDTH, type RenderOptions, renderNix } from "./print/render.ts";

// derivations

export { type DerivationOptions, derivation, type FixedOutputOptions, fixedOutput } from "./derivation.ts";
export { assertStoreName, MAX_STORE_NAME_LENGTH, toStoreName } from "./store-name.ts";

// flakes and their locks

export {
  type Flake,
  type FlakeApp,
  type FlakeOptions,
  type FlakeOutputs,
  flake,
  type NixTarget,
  type PerSystem,
  renderFlake,
} from "./flake/flake.ts";
export type { FlakeInput, FlakeInputs } from "./flake/inputs.ts";
export {
  EMPTY_FLAKE_LOCK,
  FLAKE_LOCK_VERSION,
  type FlakeLock,
  type LockNode,
  type LockValue,
  parseFlakeLock,
  renderFlakeLock,
} from "./flake/lock.ts";

// hashes, archives, store paths

export { toSri } from "./hash.ts";
export { encodeNar, type NarTree, narHash, readNarHash } from "./nar.ts";
export { fixedOutputStorePath } from "./nix/store-path.ts";

// Debian as a source: what to lock, and the lock

export { DEBIAN_KEYRING } from "./debian/apt.ts";
export type { DebianArchitecture } from "./debian/architecture.ts";
export {
  type DebianLock,
  type LockedPackage,
  lockEpochSeconds,
  parseDebianLock,
  readDebianLock,
  renderDebianLock,
  writeDebianLock,
} from "./debian/lock.ts";
export { type DebianMirror, type FindMirrorOptions, findDebianMirror, mirrorDirectories } from "./debian/mirror.ts";
export { type DebianRequest, debianRequestDigest, type ResolveOptions, resolveDebian } from "./debian/resolve.ts";

// Debian as a source: packages, trees and systems in a flake

export {
  type DebianBuilders,
  type DebianBuildOptions,
  type DebianSystemOptions,
  type DebianTreeOptions,
  debianBuilders,
} from "./debian/builders.ts";
export { DEFAULT_MAX_DEB_ARCHIVE_BYTES, DEFAULT_MAX_DEB_FILE_BYTES, readDebFile } from "./debian/deb.ts";
export { debianDownloads, debianPackage, debianPackageUrl } from "./debian/fetch.ts";
export { type DebianPackages, debianPackages } from "./debian/packages.ts";
export { BOOTSTRAP_PACKAGE, type StageOptions, stageDebianBuilders } from "./debian/stage.ts";

// Debian as a source: programs of another release, to be run as they are

export { type DebianTree, type DebianTreeRequest, type MakeTreeOptions, makeDebianTree } from "./debian/tree.ts";
export { type RunnableTree, type TreeCommand, treeCommand, writeTreePrograms } from "./debian/tree-command.ts";

// the nix command

export { type BuildFlakeOptions, buildFlake } from "./nix/build.ts";
export type { ExpectedDownload } from "./nix/build-log.ts";
export { MIN_NIX_VERSION, type Nix, type OpenNixOptions, openNix } from "./nix/open.ts";
export type { Progress, ProgressEvent } from "./progress.ts";
