import { join, resolve } from "node:path";
import type { CommandIo } from "@leveret/command";
import { type FileSource, fileSource } from "../bytes/byte-source.ts";
import { atomic, readSecret, readWhole } from "../internal/files.ts";
import { type LoadKeysOptions, loadKeys } from "../keys/load.ts";
import { certificateFile, KEY_ROLES, type KeyRole, type KeySet, keyFile } from "../keys/roles.ts";

/** Longest file with a certificate, a key or text that a command reads, in bytes. */
const MAX_SMALL_FILE_BYTES = 1024 * 1024;

/** The files of one command: what it reads is never longer than it says, and not what it writes. */
export class CommandFiles implements AsyncDisposable {
  readonly #io: CommandIo;
  readonly #open: FileSource[] = [];
  readonly #inputs = new Set<string>();

  constructor(io: CommandIo) {
    this.#io = io;
  }

  /** A path of the command line, absolute. */
  resolve(path: string): string {
    return resolve(this.#io.cwd, path);
  }

  /** Opens a file, to be read where it is needed, until the command has done its work. */
  async open(path: string): Promise<FileSource> {
    const file = await fileSource(this.#input(path));
    this.#open.push(file);
    return file;
  }

  /** Reads a whole file, FIFO or open descriptor. */
  async read(path: string, maxBytes = MAX_SMALL_FILE_BYTES): Promise<Uint8Array> {
    return await readWhole(this.#input(path), { maxBytes, signal: this.#io.signal });
  }

  /** Reads a passphrase, PIN or token. */
  async secret(path: string): Promise<string> {
    return await readSecret(this.#input(path), this.#io.signal);
  }

  /** Reads a key hierarchy. */
  async keys<R extends KeyRole>(directory: string, options: LoadKeysOptions<R>): Promise<KeySet<R>> {
    for (const role of KEY_ROLES) {
      for (const name of [keyFile(role), certificateFile(role)]) this.#input(join(directory, name));
    }
    return await loadKeys(this.resolve(directory), options);
  }

  /**
   * Where an output goes, absolute.
   *
   * @param changed - The one input that it may be, as it was given: that which is changed where it is.
   * @throws {UkiSignError} `UKI_SIGN_FILE` when it is another one of the files read so far.
   */
  async output(path: string, changed?: string): Promise<string> {
    const place = this.resolve(path);
    const others = new Set(this.#inputs);
    if (changed !== undefined) others.delete(this.resolve(changed));
    await atomic.assertNoInput(place, [...others]);
    return place;
  }

  /** Writes an output whole or not at all; see {@link output}. */
  async write(path: string, bytes: Uint8Array, changed?: string): Promise<void> {
    await atomic.write(await this.output(path, changed), (sink) => sink.write(0, bytes));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#open.map((file) => file.close()));
  }

  #input(path: string): string {
    const place = this.resolve(path);
    this.#inputs.add(place);
    return place;
  }
}
