import { QemuError } from "../errors.ts";
import type { QmpArguments } from "../qmp/types.ts";

/** A key, by QEMU's name for it (`QKeyCode`): that of the key on a keyboard of the United States. */
export type KeyName = Extract<QmpArguments<"send-key">["keys"][number], { readonly type: "qcode" }>["data"];

/** Keys that are held down together. */
export type KeyChord = readonly KeyName[];

const NAMED: Readonly<Record<string, KeyChord>> = {
  "\n": ["ret"],
  "\r": ["ret"],
  "\t": ["tab"],
  "\b": ["backspace"],
  "\u001b": ["esc"],
  "\u007f": ["delete"],
  " ": ["spc"],
  "-": ["minus"],
  "=": ["equal"],
  "[": ["bracket_left"],
  "]": ["bracket_right"],
  ";": ["semicolon"],
  "'": ["apostrophe"],
  "`": ["grave_accent"],
  "\\": ["backslash"],
  ",": ["comma"],
  ".": ["dot"],
  "/": ["slash"],
};

/** What shift makes of a key, on the layout of the United States. */
const SHIFTED: Readonly<Record<string, string>> = {
  "!": "1",
  "@": "2",
  "#": "3",
  $: "4",
  "%": "5",
  "^": "6",
  "&": "7",
  "*": "8",
  "(": "9",
  ")": "0",
  _: "-",
  "+": "=",
  "{": "[",
  "}": "]",
  ":": ";",
  '"': "'",
  "~": "`",
  "|": "\\",
  "<": ",",
  ">": ".",
  "?": "/",
};

/**
 * The keys that type a text on a keyboard with the layout of the United States, which firmware and installers have.
 *
 * @throws {QemuError} `QEMU_BAD_OPTIONS` for a character that this layout does not have.
 */
export function chordsOf(text: string): readonly KeyChord[] {
  return Array.from(text, (character) => {
    const chord = chordOf(character);
    if (chord !== undefined) return chord;
    const message = `expected characters of a US keyboard, got ${JSON.stringify(character)}`;
    throw new QemuError("QEMU_BAD_OPTIONS", message, { issues: [{ path: "text", message }] });
  });
}

function chordOf(character: string): KeyChord | undefined {
  if (/^[a-z0-9]$/.test(character)) return [character as KeyName];
  if (/^[A-Z]$/.test(character)) return ["shift", character.toLowerCase() as KeyName];
  if (Object.hasOwn(NAMED, character)) return NAMED[character];
  const base = Object.hasOwn(SHIFTED, character) ? SHIFTED[character] : undefined;
  const plain = base === undefined ? undefined : chordOf(base);
  return plain && ["shift", ...plain];
}
