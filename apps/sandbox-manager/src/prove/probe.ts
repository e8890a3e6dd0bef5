/** Something that is tried inside a machine. */
export type Probe =
  /** connects, says bytes, and listens until the other end stops */
  | { readonly kind: "tcp"; readonly host: string; readonly port: number; readonly bytes: Uint8Array }
  /** sends a datagram, and listens for a moment */
  | { readonly kind: "udp"; readonly host: string; readonly port: number; readonly bytes: Uint8Array }
  /** the same with an IP protocol */
  | { readonly kind: "raw"; readonly host: string; readonly port: number; readonly bytes: Uint8Array }
  /** puts a frame onto the network, whatever it is */
  | { readonly kind: "frame"; readonly bytes: Uint8Array }
  | { readonly kind: "shell"; readonly script: string };

/** What came of a probe: what was heard, or an error of the machine's kernel. */
export interface Heard {
  /** absent when nothing was reached */
  readonly bytes?: Uint8Array | undefined;
  readonly error?: string | undefined;
}

/** How long a probe waits for an answer that should not come, in `seconds`. */
const PATIENCE_S = 1;
/** How long it waits for one that ends by itself. */
const LIMIT_S = 12;

/**
 * Runs probes one after the other, given as `KIND HOST PORT HEX` on standard input, and prints a line for each. In Perl,
 * because its base is in every Debian.
 */
export const PROBE_PROGRAM = String.raw`use strict; use Socket qw(:DEFAULT inet_pton pack_sockaddr_in6 AF_INET6);
$| = 1; $SIG{ALRM} = sub { die "no answer\n" }; $SIG{PIPE} = "IGNORE";
sub hear { my ($s, $limit) = @_; my $got = "";
  eval { alarm $limit; while (length($got) < 65536) { my $n = sysread($s, $got, 65536, length $got); last if !$n; } alarm 0; };
  alarm 0; return $got; }
sub where { my ($host, $port) = @_;
  return (AF_INET6, pack_sockaddr_in6($port, inet_pton(AF_INET6, $host) // die "no address\n")) if $host =~ /:/;
  return (AF_INET, pack_sockaddr_in($port, inet_aton($host) // die "no such name\n")); }
sub attempt { my ($kind, $host, $port, $hex) = @_; my $bytes = pack("H*", $hex);
  if ($kind eq "shell") { my $out = qx{sh -c 'eval "\$(cat)"' 2>&1 <<'LEVERET_END_OF_SCRIPT'
$bytes
LEVERET_END_OF_SCRIPT
}; return "heard " . unpack("H*", substr($out, 0, 131072)); }
  if ($kind eq "frame") { open(my $f, "<", "/sys/class/net/net0/ifindex") or die "no card\n"; my $index = <$f> + 0;
    socket(my $s, 17, 3, unpack("n", pack("S", 3))) or die "$!\n";
    send($s, $bytes, 0, pack("SnlSCCa8", 17, 3, $index, 0, 0, 6, "\x52\x54\0\x12\0\1\0\0")) // die "$!\n"; return "heard "; }
  my ($family, $to) = where($host, $kind eq "raw" ? 0 : $port);
  if ($kind eq "tcp") { socket(my $s, $family, SOCK_STREAM, 0) or die "$!\n";
    alarm ${LIMIT_S}; connect($s, $to) or die "$!\n"; syswrite($s, $bytes); alarm 0;
    return "heard " . unpack("H*", hear($s, ${LIMIT_S})); }
  socket(my $s, $family, $kind eq "udp" ? SOCK_DGRAM : SOCK_RAW, $kind eq "udp" ? 0 : $port) or die "$!\n";
  connect($s, $to) or die "$!\n"; defined(send($s, $bytes, 0)) or die "$!\n";
  my $got; alarm ${PATIENCE_S}; my $n = sysread($s, $got, 65536); alarm 0; defined $n or die "$!\n";
  return "heard " . unpack("H*", $got); }
while (my $line = <STDIN>) { chomp $line; my $said = eval { attempt(split / /, $line, -1) }; my $why = $@; alarm 0;
  if (!defined $said) { $why =~ s/\s+/ /g; $said = "error $why"; } print "$said\n"; }
`;

/** A probe as a line of the program's input. */
export function encodeProbe(probe: Probe): string {
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
  if (probe.kind === "shell") return `shell - 0 ${hex(Buffer.from(probe.script))}`;
  if (probe.kind === "frame") return `frame - 0 ${hex(probe.bytes)}`;
  return `${probe.kind} ${probe.host} ${probe.port} ${hex(probe.bytes)}`;
}

/** A line of the program's output. */
export function decodeHeard(line: string): Heard {
  const [, hex] = /^heard ([0-9a-f]*)$/.exec(line) ?? [];
  if (hex !== undefined) return { bytes: Buffer.from(hex, "hex") };
  return { error: line.replace(/^error /, "").trim() };
}

/** What was heard, as text. */
export function textOf({ bytes }: Heard): string {
  return Buffer.from(bytes ?? []).toString("latin1");
}
