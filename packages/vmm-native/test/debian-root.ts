import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** What a root file system of the tree of oracles does without. */
const LEFT_OUT = [
  "boot",
  "usr/lib/modules",
  "usr/lib/python3*",
  "usr/lib/x86_64-linux-gnu/perl*",
  ...["doc", "locale", "man", "perl*"].map((name) => `usr/share/${name}`),
];

/**
 * What makes it Debian to log in to: systemd starts a prompt, and nothing that its packages would want configured. It says what the
 * host answers at the port that `host` of the kernel's command line names, and answers at port 8080.
 */
const FILES = {
  "etc/passwd": "root:x:0:0:root:/root:/bin/bash\n",
  "etc/group": "root:x:0:\ntty:x:5:\n",
  "etc/hostname": "debian\n",
  "etc/systemd/system/login.target": `[Unit]
DefaultDependencies=no
Wants=prompt.service answer.socket ask.service
`,
  "etc/systemd/system/prompt.service": `[Unit]
DefaultDependencies=no
[Service]
ExecStart=-/sbin/agetty --noclear --keep-baud console 115200 linux
StandardInput=tty
StandardOutput=tty
TTYPath=/dev/console
`,
  "etc/systemd/system/ask.service": `[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
StandardOutput=tty
TTYPath=/dev/console
PassEnvironment=host
ExecStart=/bin/bash -c 'exec 3<>/dev/tcp/10.0.2.2/$host; echo hello >&3; read line <&3; echo "the host says $line"'
`,
  "etc/systemd/system/answer.socket": `[Unit]
DefaultDependencies=no
[Socket]
ListenStream=8080
Accept=yes
`,
  "etc/systemd/system/answer@.service": `[Unit]
DefaultDependencies=no
[Service]
ExecStart=/bin/bash -c 'read line; echo "the guest says $line"'
StandardInput=socket
StandardOutput=socket
`,
} as const;

/** Makes an ext4 image of Debian's programs in the tree of oracles, and returns where it is. */
export function makeDebianRoot(tree: string, directory: string): string {
  const [root, archive, image] = ["root", "root.tar", "root.img"].map((name) => join(directory, name)) as [
    string,
    string,
    string,
  ];
  mkdirSync(root);
  const excluded = LEFT_OUT.map((path) => `--exclude=./${path}`);
  execFileSync("tar", ["--create", "--mode=u+w", `--file=${archive}`, `--directory=${tree}`, ...excluded, "."]);
  execFileSync("tar", ["--extract", `--file=${archive}`, `--directory=${root}`]);
  rmSync(archive);
  for (const [path, content] of Object.entries(FILES)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), content);
  }
  execFileSync("mke2fs", ["-q", "-t", "ext4", "-O", "^has_journal", "-d", root, image, "400M"], { stdio: "pipe" });
  return image;
}
