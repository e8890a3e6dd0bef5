import { UsageError } from "@leveret/command";
import { decodeAuthenticatedVariable, secureBootVariableGuid } from "../efi/authenticated-variable.ts";
import { decodeGuid } from "../efi/guid.ts";
import {
  DEFAULT_MAX_SIGNATURE_DATABASE_BYTES,
  decodeSignatureLists,
  type SignatureList,
} from "../efi/signature-list.ts";
import { decodeVariableStore } from "../efi/variable-store.ts";
import { SIGNATURE_TYPES, WIN_CERTIFICATE_REVISION, WIN_CERTIFICATE_TYPE_EFI_GUID } from "../format/efi.ts";
import { FV_SIGNATURE, FV_SIGNATURE_OFFSET } from "../format/variable-store.ts";
import { viewOf } from "../internal/bytes.ts";

/** Most that a file with a database may have, in `bytes`: a variable store has several. */
export const MAX_DATABASE_FILE_BYTES: number = 4 * DEFAULT_MAX_SIGNATURE_DATABASE_BYTES;

/** Files that hold signature databases. */
export type DatabaseFile = "variable store" | "authenticated variable" | "efivarfs" | "signature list";

/** Attributes of a variable, which stand before its value in a file of Linux' efivarfs, in `bytes`. */
const EFIVARFS_ATTRIBUTES = 4;

/** What a file looks like; anything else is taken for a signature list, whose decoder says what is wrong with it. */
export function databaseFileOf(bytes: Uint8Array): DatabaseFile {
  const view = viewOf(bytes);
  if (bytes.length >= FV_SIGNATURE_OFFSET + 4 && view.getUint32(FV_SIGNATURE_OFFSET, true) === FV_SIGNATURE) {
    return "variable store";
  }
  const mark = WIN_CERTIFICATE_REVISION + WIN_CERTIFICATE_TYPE_EFI_GUID * 0x10000;
  if (bytes.length >= 24 && view.getUint32(20, true) === mark) return "authenticated variable";
  const types: readonly string[] = Object.values(SIGNATURE_TYPES).map(({ guid }) => guid);
  const isKnown = (at: number): boolean => bytes.length >= at + 16 && types.includes(decodeGuid(bytes.subarray(at)));
  return !isKnown(0) && isKnown(EFIVARFS_ATTRIBUTES) ? "efivarfs" : "signature list";
}

/**
 * The signature lists of a file: bare, of an authenticated variable (whose own signature says who may set it, and is not
 * looked at), as efivarfs shows a variable, or of the variable `name` in a store.
 *
 * @throws {UsageError} For a store that has no such variable. {UkiSignError} What the decoders throw.
 */
export function signatureListsOf(bytes: Uint8Array, name?: "db" | "dbx"): SignatureList[] {
  switch (databaseFileOf(bytes)) {
    case "variable store": {
      if (name === undefined) throw new UsageError("expected a signature list, got a variable store");
      const guid = secureBootVariableGuid(name);
      const found = decodeVariableStore(bytes).variables.find((each) => each.name === name && each.guid === guid);
      if (found === undefined) throw new UsageError(`expected a variable store with ${name}, got one without`);
      return decodeSignatureLists(found.data);
    }
    case "authenticated variable":
      return decodeSignatureLists(decodeAuthenticatedVariable(bytes).data);
    case "efivarfs":
      return decodeSignatureLists(bytes.subarray(EFIVARFS_ATTRIBUTES));
    case "signature list":
      return decodeSignatureLists(bytes);
  }
}
