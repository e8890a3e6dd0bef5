import { relative } from "node:path";
import { textOf } from "./probe.ts";
import type { ProofCase, Surroundings } from "./prove.ts";

/** So often a directory is exchanged for a link while somebody reads below it. */
const SWAPS = 1000;

/** One process exchanges, the other one reads until that has ended, and once after it. Prints each line that was read. */
const SWAP = `use strict; my ($outside, $times) = @ARGV; my ($around, $name) = $outside =~ m{(.*)/(.*)}; my %seen;
mkdir "swap"; mkdir "kept"; symlink $around, "link"; open(my $made, ">", "swap/$name"); print $made "inside"; close $made;
sub look { open(my $file, "<", "swap/$name") or return; $seen{$_} = 1 while <$file>; }
my $child = fork // die;
if (!$child) {
  for (1 .. $times) { rename "swap", "kept/swap"; rename "link", "swap"; rename "swap", "link"; rename "kept/swap", "swap"; }
  rename "swap", "kept/swap"; rename "link", "swap"; exit; }
look() until waitpid($child, 1); look(); print keys %seen;`;

/** Ways out of the workspace, and to what is not to be seen in it, that there must not be. */
export function workspaceCases({ directory, outside, token, place }: Surroundings): readonly ProofCase[] {
  const inside = `/workspace/${place}`;
  const way = relative(directory, outside);
  const script = (text: string) => [{ kind: "shell", script: text } as const];
  const unlessSeen: ProofCase["judge"] = (heard) =>
    heard.some((each) => textOf(each).includes(token))
      ? "a file of the host outside of the project was read"
      : undefined;
  return [
    {
      name: "dot-dot",
      tried: "a file of the host outside of the project, by .. from the workspace and from the guest's root",
      probes: script(
        `cat '/workspace/${way}' '${inside}/../${way}' '${outside}' '/proc/1/root${outside}' '/proc/1/cwd/${way}'`,
      ),
      judge: unlessSeen,
    },
    {
      name: "links",
      tried:
        "the same file by links in the workspace that the guest and the host have made; reading, writing and removing",
      probes: script(`cd '${inside}' || exit
ln -s '${outside}' absolute; ln -s '../${way}' relative; ln -s "$(dirname '${outside}')" around; mkdir -p deep
cat absolute relative "around/$(basename '${outside}')" deep/../relative of-host
ln of-host hard; ln '${outside}' hard2; cat hard hard2
echo changed > absolute; echo changed > relative; echo changed > of-host; rm -f "around/$(basename '${outside}')"`),
      judge: unlessSeen,
    },
    {
      name: "mount-swap",
      tried: `the same file, below a directory that is exchanged for a link to where it is, ${SWAPS} times`,
      probes: script(`cd '${inside}' && exec perl -e '${SWAP}' '${outside}' ${SWAPS}`),
      judge: unlessSeen,
    },
    {
      name: "hidden-names",
      tried: "a file .env of the project: reading, linking, listing and copying it",
      probes: script(`cd '${inside}' || exit
cat .env .ENV ./.env; ln .env seen; cat seen; cp -r . /tmp/prove-copy; cat /tmp/prove-copy/.env; rm -rf /tmp/prove-copy`),
      judge: (heard) => unlessSeen(heard) && "a hidden file was seen",
    },
  ];
}
