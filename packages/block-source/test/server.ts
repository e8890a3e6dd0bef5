import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { onTestFinished } from "vitest";

/** What one request asked for. */
export interface Asked {
  readonly start: number;
  /** behind the last byte */
  readonly end: number;
  readonly headers: IncomingMessage["headers"];
}

/** Answers one request; what it leaves out is done as by an honest server. */
export type Behaviour = (asked: Asked, response: ServerResponse, count: number) => "handled" | "honest";

/** An answer as an honest server gives it, to be changed. */
export function partOf(
  bytes: Uint8Array,
  { start, end }: Asked,
): { headers: Record<string, string>; body: Uint8Array } {
  const behind = Math.min(end, bytes.byteLength);
  return {
    headers: { "content-range": `bytes ${start}-${behind - 1}/${bytes.byteLength}`, etag: '"one"' },
    body: bytes.subarray(start, behind),
  };
}

/** A server on this machine with one file, which is gone when the test ends. */
export async function startServer(
  bytes: Uint8Array,
  behaviour: Behaviour = () => "honest",
): Promise<{ readonly url: string; readonly asked: Asked[] }> {
  const asked: Asked[] = [];
  const server = createServer((request, response) => {
    const match = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "");
    const range = { start: Number(match?.[1]), end: Number(match?.[2]) + 1, headers: request.headers };
    asked.push(range);
    if (behaviour(range, response, asked.length) === "handled") return;
    if (range.start >= bytes.byteLength) {
      response.writeHead(416, { "content-range": `bytes */${bytes.byteLength}` }).end();
      return;
    }
    const { headers, body } = partOf(bytes, range);
    response.writeHead(206, headers).end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(
    () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  );
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/image?token=secret`, asked };
}
