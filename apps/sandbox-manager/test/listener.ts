import { connect } from "node:net";
import { text } from "node:stream/consumers";

/** A program for Perl that answers every connection with a text. */
export function listening(address: string, port: number, says: string): string {
  return `use IO::Socket::INET; $| = 1; my $s = IO::Socket::INET->new(LocalAddr => "${address}", LocalPort => ${port},
    Listen => 5, ReuseAddr => 1) or die $!; print "listens\\n"; while (my $c = $s->accept) { print $c "${says}"; close $c }`;
}

/** What something that listens sends before it ends, once it does; undefined when nothing listens. */
export async function heard(host: string, port: number): Promise<string | undefined> {
  const socket = connect({ host, port });
  return text(socket).catch(() => undefined);
}
