/**
 * A document that knows how it looks on one line and where it may be broken, after Wadler's "A prettier printer" (2003).
 * A group is printed on one line when it fits, and otherwise broken at every one of its own lines.
 */
export type Doc =
  | { readonly kind: "text"; readonly text: string; readonly width: number }
  | { readonly kind: "line"; readonly flat: string; readonly width: number }
  | { readonly kind: "concat"; readonly parts: readonly Doc[]; readonly width: number }
  | { readonly kind: "indent"; readonly body: Doc; readonly width: number }
  | { readonly kind: "group"; readonly body: Doc; readonly width: number }
  | { readonly kind: "ifBroken"; readonly text: string; readonly width: number };

const INDENT_SPACES = 2;

/** A space, or a line break in a broken group. */
export const LINE: Doc = { kind: "line", flat: " ", width: 1 };

/** Nothing, or a line break in a broken group. */
export const SOFT_LINE: Doc = { kind: "line", flat: "", width: 0 };

/** A line break; breaks every group around it. */
export const HARD_LINE: Doc = { kind: "line", flat: "", width: Number.POSITIVE_INFINITY };

/** Text without line breaks. */
export function text(value: string): Doc {
  return { kind: "text", text: value, width: value.length };
}

/** Documents one after the other; strings are text. */
export function concat(...parts: readonly (Doc | string)[]): Doc {
  const docs = parts.map((part) => (typeof part === "string" ? text(part) : part));
  return { kind: "concat", parts: docs, width: docs.reduce((sum, doc) => sum + doc.width, 0) };
}

/** `body` with its line breaks two spaces further in. */
export function indent(...body: readonly (Doc | string)[]): Doc {
  const doc = concat(...body);
  return { kind: "indent", body: doc, width: doc.width };
}

/** `body` on one line if it fits. */
export function group(...body: readonly (Doc | string)[]): Doc {
  const doc = concat(...body);
  return { kind: "group", body: doc, width: doc.width };
}

/** Text that is there only when the group around it is broken. */
export function ifBroken(value: string): Doc {
  return { kind: "ifBroken", text: value, width: 0 };
}

/** `docs` with `separator` between them. */
export function join(separator: Doc, docs: readonly Doc[]): Doc {
  return concat(...docs.flatMap((doc, index) => (index === 0 ? [doc] : [separator, doc])));
}

/** Whether `doc` has to be broken. */
export function isBroken(doc: Doc): boolean {
  return doc.width === Number.POSITIVE_INFINITY;
}

/**
 * Lays `doc` out.
 *
 * @param doc - The document.
 * @param width - Soft limit of a line in characters, not counting its indentation.
 */
export function layout(doc: Doc, width: number): string {
  const out: string[] = [];
  // Characters since the last indentation, and the indentation that is due before the next character.
  let column = 0;
  let due = 0;
  const stack: { doc: Doc; indent: number; broken: boolean }[] = [{ doc, indent: 0, broken: true }];
  const write = (value: string): void => {
    if (value === "") return;
    if (due > 0) out.push(" ".repeat(due));
    due = 0;
    out.push(value);
    column += value.length;
  };
  for (let item = stack.pop(); item !== undefined; item = stack.pop()) {
    const { doc: next, indent: level, broken } = item;
    switch (next.kind) {
      case "text":
        write(next.text);
        break;
      case "line":
        if (broken) {
          out.push("\n");
          column = 0;
          due = level;
        } else write(next.flat);
        break;
      case "ifBroken":
        if (broken) write(next.text);
        break;
      case "concat":
        for (const part of next.parts.toReversed()) stack.push({ doc: part, indent: level, broken });
        break;
      case "indent":
        stack.push({ doc: next.body, indent: level + INDENT_SPACES, broken });
        break;
      case "group":
        stack.push({ doc: next.body, indent: level, broken: broken && column + next.width > width });
        break;
    }
  }
  return out.join("");
}
