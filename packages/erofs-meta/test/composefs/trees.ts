import { noise } from "../support.ts";

/** Lines of a dump; numbers that no test is about are the same everywhere. */
function line(
  path: string,
  mode: string,
  size: number,
  options: {
    payload?: string;
    content?: string;
    digest?: string;
    links?: number;
    device?: number;
    owner?: number;
    time?: string;
    xattrs?: string;
  } = {},
): string {
  const {
    payload = "-",
    content = "-",
    digest = "-",
    links = 1,
    device = 0,
    owner = 0,
    time = "1700000000.0",
    xattrs,
  } = options;
  const fields = [path, size, mode, links, owner, owner, device, time, payload, content, digest];
  return [...fields, ...(xattrs === undefined ? [] : [xattrs])].join(" ");
}

function hex(length: number, seed: number): string {
  return Buffer.from(noise(length, seed)).toString("hex");
}

const DIGEST = hex(32, 1);
const BIG = 3_000_000_000;

/** Dumps that go through everything an image can have. */
export const DUMPS: Readonly<Record<string, string>> = {
  "nothing but a root": line("/", "40755", 0),
  "every type": [
    line("/", "40755", 0, { xattrs: "security.selinux=root\\x00" }),
    line("/block", "60660", 0, { device: 2064 }),
    line("/char", "20666", 0, { device: 259 }),
    line("/dir", "41777", 0, { owner: 1000 }),
    line("/dir/fifo", "10644", 0),
    line("/dir/socket", "140755", 0, { owner: 70_000 }),
    line("/empty", "100644", 0),
    line("/file", "104755", 12_345, { payload: `ab/${DIGEST}`, digest: DIGEST, time: "1600000000.5" }),
    line("/hard", "@100644", 0, { payload: "/file" }),
    line("/inline", "100600", 6, { content: "hello\\n" }),
    line("/link", "120777", 11, { payload: "dir/../file" }),
    line("/no-digest", "100644", BIG, { payload: "some/where" }),
    line("/no-payload", "100644", 1),
  ].join("\n"),
  "names on all sides of . and ..": [
    line("/", "40755", 0),
    ...["!", "+x", "-", "..a", ".a", "a", "é", "~"]
      .sort()
      .map((name) => line(`/${name === "é" ? "\\xc3\\xa9" : name}`, "100644", 0)),
    line("/7f", "100644", 0),
    line("/dir", "40755", 0),
    line("/dir/00", "100644", 0),
  ].join("\n"),
  "whiteouts and overlayfs's own attributes": [
    line("/", "40755", 0),
    line("/dir", "40755", 0),
    line("/dir/gone", "20644", 0, { device: 0 }),
    line("/dir/opaque", "40755", 0, { xattrs: "trusted.overlay.opaque=y" }),
    line("/redirected", "100644", 0, { xattrs: "trusted.overlay.redirect=/elsewhere user.overlay.metacopy=" }),
  ].join("\n"),
  "attributes that are shared, and many": [
    line("/", "40755", 0),
    ...Array.from({ length: 40 }, (_, index) =>
      line(`/f${index}`, "100644", 0, {
        time: `${1_700_000_000 + (index % 3)}.${index}`,
        xattrs: [
          "security.capability=\\x01\\x00\\x00\\x02",
          "system.posix_acl_access=\\x02\\x00\\x00\\x00",
          `user.same=${"x".repeat(index % 2 === 0 ? 5 : 70)}`,
          `user.own${index}=${index}`,
        ].join(" "),
      }),
    ),
  ].join("\n"),
  "tails at every place of a block": [
    line("/", "40755", 0),
    ...Array.from({ length: 60 }, (_, index) => {
      const length = (index * 337) % 5001;
      return line(`/inline-${index}`, "100644", length, { content: "x".repeat(length) || "-" });
    }),
    ...[1, 2000, 3900, 4000, 4031, 4032, 4033, 4095].map((length) =>
      line(`/link-${length}`, "120777", length, { payload: "t".repeat(length) }),
    ),
  ].join("\n"),
  "directories of many sizes": [
    line("/", "40755", 0),
    ...[1, 20, 60, 90, 180, 700].flatMap((count) => [
      line(`/d${count}`, "40755", 0),
      ...Array.from({ length: count }, (_, index) =>
        line(`/d${count}/${"n".repeat(index % 40)}${index}`, "100644", index, {
          payload: `${index}/${DIGEST}`,
          digest: DIGEST,
        }),
      ),
    ]),
  ].join("\n"),
};
