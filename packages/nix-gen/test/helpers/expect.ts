import { expect } from "vitest";
import { NixGenError, type NixGenErrorCode } from "../../src/index.ts";

/** Runs `action` and returns the package error that it must throw, checked for its code and place. */
export function refusal(action: () => unknown, code: NixGenErrorCode, path?: string): NixGenError {
  try {
    action();
  } catch (error) {
    if (!(error instanceof NixGenError)) throw error;
    expect({ code: error.code, path: error.path }).toEqual({ code, path });
    expect(error.name).toBe("NixGenError");
    return error;
  }
  throw new Error(`expected ${code}, got no error`);
}
