/** What a header says. */
export interface TarFile {
  readonly name: string;
  readonly prefix?: string;
  readonly type?: string;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtime?: number;
  readonly linkName?: string;
  readonly major?: number;
  readonly minor?: number;
  readonly content?: Uint8Array;
  /** records of a pax header in front */
  readonly pax?: Readonly<Record<string, string>>;
  /** GNU's header for long names in front */
  readonly longName?: string;
}

const encoder = new TextEncoder();

/** Makes an archive by hand. */
export function tarOf(files: readonly TarFile[]): Uint8Array {
  const parts: Uint8Array[] = [];
  const add = (file: TarFile, content = new Uint8Array(0)): void => {
    parts.push(tarHeader(file, content.byteLength), content, new Uint8Array((512 - (content.byteLength % 512)) % 512));
  };
  for (const file of files) {
    if (file.pax !== undefined) add({ name: "pax", type: "x" }, encoder.encode(records(file.pax)));
    if (file.longName !== undefined) add({ name: "././@LongLink", type: "L" }, encoder.encode(`${file.longName}\0`));
    add(file, Uint8Array.from(file.content ?? []));
  }
  return new Uint8Array(Buffer.concat([...parts, new Uint8Array(1024)]));
}

export function tarHeader(file: TarFile, size: number): Uint8Array {
  const header = Buffer.alloc(512);
  const octal = (value: number, at: number, length: number): void => {
    header.write(`${value.toString(8).padStart(length - 1, "0")}\0`, at, "latin1");
  };
  header.write(file.name, 0, 100);
  octal(file.mode ?? 0o644, 100, 8);
  octal(file.uid ?? 0, 108, 8);
  octal(file.gid ?? 0, 116, 8);
  octal(size, 124, 12);
  octal(file.mtime ?? 0, 136, 12);
  header.fill(" ", 148, 156);
  header.write(file.type ?? "0", 156);
  header.write(file.linkName ?? "", 157, 100);
  header.write("ustar\x0000", 257, "latin1");
  octal(file.major ?? 0, 329, 8);
  octal(file.minor ?? 0, 337, 8);
  header.write(file.prefix ?? "", 345, 155);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return new Uint8Array(header);
}

function records(pax: Readonly<Record<string, string>>): string {
  return Object.entries(pax)
    .map(([key, value]) => {
      const rest = ` ${key}=${value}\n`;
      let length = encoder.encode(rest).byteLength;
      while (`${length}`.length + encoder.encode(rest).byteLength !== length) length += 1;
      return `${length}${rest}`;
    })
    .join("");
}
