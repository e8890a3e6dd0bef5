import { createHash } from "node:crypto";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { text } from "node:stream/consumers";
import { connect as connectTls, createServer as createTlsServer, type Server as TlsServer } from "node:tls";
import { afterEach, expect, test } from "vitest";
import { Authority } from "../../src/network/authority.ts";
import { decodeClientHello, isHelloRetryRequest } from "../../src/network/format/tls.ts";
import { readOpening } from "../../src/network/opening.ts";
import { relayTls } from "../../src/network/relay.ts";
import { clientHello } from "./client-hello.ts";

const authority = new Authority();
const servers: (Server | TlsServer)[] = [];
const lies: string[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
  lies.length = 0;
});

async function listen<T extends Server | TlsServer>(server: T): Promise<{ port: number; host: string }> {
  servers.push(server);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { port: (server.address() as AddressInfo).port, host: "127.0.0.1" };
}

/** Something that carries TLS to a server as a gateway does. */
async function carrier(server: { port: number; host: string }): Promise<{ port: number; host: string }> {
  const serve = async (stream: Socket): Promise<void> => {
    stream.on("error", () => {});
    const opening = await readOpening(stream, 5000);
    if (opening.kind !== "tls") throw new Error("expected TLS");
    const socket = connect({ ...server, allowHalfOpen: true });
    socket.on("error", () => {});
    await relayTls(stream, socket, { hello: opening.hello, said: opening.bytes }, () => lies.push("another name"));
  };
  return listen(createServer({ allowHalfOpen: true }, (stream) => void serve(stream)));
}

/** A request to begin once more: a ServerHello with that number. @see RFC 8446, section 4.1.3 */
const RETRY_REQUEST: Buffer = (() => {
  const random = createHash("sha256").update("HelloRetryRequest").digest();
  const body = Buffer.concat([Uint8Array.of(3, 3), random, Uint8Array.of(0, 0x13, 1, 0, 0, 0)]);
  const message = Buffer.concat([Uint8Array.of(2, 0, 0, body.length), body]);
  return Buffer.concat([Uint8Array.of(22, 3, 3, 0, message.length), message]);
})();

/** A server that wants keys on another curve than clients send at first. */
const retrying = { ecdhCurve: "P-384", minVersion: "TLSv1.3" } as const;

test.each([
  ["once more", retrying],
  ["at once", {}],
  ["with TLS 1.2", { maxVersion: "TLSv1.2" }],
] as const)("TLS that begins %s goes through", async (_, options) => {
  const { key, cert } = authority.serverFor("secure.test");
  const server = createTlsServer({ key, cert, ...options }, (socket) => socket.end("hello over TLS"));
  const way = await carrier(await listen(server));
  const client = connectTls({ ...way, servername: "secure.test", ca: authority.certificate });
  expect(await text(client)).toBe("hello over TLS");
  expect(lies).toEqual([]);
});

test.each([
  ["secure.test", true],
  ["other.test", false],
] as const)("whoever is asked to begin once more has to say the same name: %s", async (name, isPassed) => {
  const said: Buffer[] = [];
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => socket.write(RETRY_REQUEST));
    socket.on("data", (chunk) => said.push(chunk));
  });
  const client = connect(await carrier(await listen(server)));
  client.on("error", () => {});
  const first = clientHello({ serverName: "secure.test" });
  const second = clientHello({ serverName: name });
  client.write(first);
  await once(client, "data");
  // What TLS 1.2 had there, and then the second one, in pieces.
  client.write(Uint8Array.of(20, 3, 3, 0, 1, 1));
  client.write(second.subarray(0, 30));
  client.write(second.subarray(30));
  const length = first.length + 6 + second.length;
  if (isPassed) await expect.poll(() => Buffer.concat(said).length).toBe(length);
  else await once(client, "close");
  expect(lies).toEqual(isPassed ? [] : ["another name"]);
  expect(Buffer.concat(said).length).toBe(isPassed ? length : first.length);
  client.destroy();
});

test("a ClientHello is as long as its records, and is not followed by anything in them", () => {
  const hello = clientHello({ serverName: "secure.test", recordBytes: 50 });
  expect(decodeClientHello(Buffer.concat([hello, Uint8Array.of(23, 3, 3)]))?.length).toBe(hello.length);
  const whole = clientHello({ serverName: "secure.test" });
  const longer = Buffer.concat([whole, Uint8Array.of(0)]);
  longer.writeUInt16BE(longer.length - 5, 3);
  expect(() => decodeClientHello(longer)).toThrow("the end of a record");
  expect([isHelloRetryRequest(RETRY_REQUEST.subarray(0, 20)), isHelloRetryRequest(whole)]).toEqual([undefined, false]);
});
