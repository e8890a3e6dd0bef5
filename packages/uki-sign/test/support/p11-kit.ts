import { readFileSync } from "node:fs";
import { Duplex } from "node:stream";

/** What p11-kit answers while the fixture's key signs, see test/fixtures/README.md. */
export function recordedAnswers(): Uint8Array {
  const text = readFileSync(new URL("../fixtures/softhsm.p11kit.hex", import.meta.url), "latin1");
  return new Uint8Array(Buffer.from(text.replaceAll(/\s/g, ""), "hex"));
}

/** A p11-kit server that answers with these bytes, whatever it is asked, `step` bytes at a time. */
export function playing(answers: Uint8Array, step: number = answers.length): Duplex {
  let at = 0;
  return new Duplex({
    read() {
      this.push(at < answers.length ? Buffer.from(answers.subarray(at, at + step)) : null);
      at += Math.max(1, step);
    },
    write(_chunk, _encoding, done) {
      done();
    },
  });
}
