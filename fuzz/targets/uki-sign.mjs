// Decoders of @leveret/uki-sign, and small inputs to begin with.
import { createHash } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer, request } from "node:http";
import { Duplex } from "node:stream";
import { gzipSync } from "node:zlib";
import * as uki from "../../packages/uki-sign/dist/index.js";

const code = new URL("../../packages/uki-sign/dist/", import.meta.url);
const isExpected = (error) => error instanceof uki.UkiSignError;
const OWNER = "01020304-0506-0708-090a-0b0c0d0e0f10";
const TIME = new Date("2026-06-01T00:00:00Z");
const TOKEN = "0123456789abcdef0123456789abcdef";
const CHID = "6de5d951-d755-576b-bd09-c5cf66b27234";

// A key of each run its own: a seed repeats the changes, and the input that did harm is kept whole in a file.
const keys = shared(async () => {
  const { generateKeyPairSync } = await import("node:crypto");
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const pem = privateKey.export({ type: "pkcs8", format: "pem" });
  const signer = uki.pemSigner(pem);
  const make = (padding) =>
    uki.createCertificate({
      subject: { commonName: "fuzz", organization: "leveret" },
      publicKey: signer.publicKey,
      signer,
      padding,
      serialNumber: 1n,
      notBefore: TIME,
      notAfter: new Date("2036-06-01T00:00:00Z"),
      isCa: true,
      extendedKeyUsage: ["1.3.6.1.5.5.7.3.3"],
    });
  return { pem, signer, certificate: await make("pkcs1"), pss: await make("pss") };
});
const sign = async (bytes, hash) => {
  const { signer, certificate } = await keys();
  return uki.signPe(bytes, { signer, certificate, hash });
};
const signed = shared(() => sign(image(), "sha256"));

/** A decoder of the package; `run` may look at what it decoded. */
const target = (name, seeds, run, more = {}) => ({ name: `uki-sign ${name}`, code, isExpected, seeds, run, ...more });

export const targets = [
  target(
    "pe",
    async () => [image(), await signed(), profiles()],
    async (bytes) => {
      for (const section of uki.decodePe(bytes).sections) uki.readPeSection(bytes, section);
      uki.authenticodeDigest(bytes, "sha256");
      uki.inspectUki(bytes);
      uki.measuredSections(bytes, { profile: 0 });
    },
    { hot: [[0x3c, 0x200]] },
  ),
  target(
    "authenticode",
    async () => [await signed(), await sign(await signed(), "sha512")],
    async (bytes) => {
      const { certificate } = await keys();
      uki.examineSignatures(bytes);
      uki.removeSignatures(bytes);
      uki.verifyPe(bytes, { db: { certificates: [certificate] }, dbx: { digests: [new Uint8Array(32)] } });
    },
    { hot: [[0xa0, 0x158]] },
  ),
  target(
    "cms",
    async () => {
      const { signer, certificate } = await keys();
      const sign = (options) => uki.signCms({ content: text("fuzz"), signer, certificate, ...options });
      return [await sign({}), await sign({ padding: "pss", signingTime: TIME }), await sign({ attributes: "none" })];
    },
    async (bytes) => void uki.verifyCms(bytes, { trusted: [(await keys()).certificate] }),
  ),
  target(
    "certificate",
    async () => [(await keys()).certificate.der, (await keys()).pss.der],
    async (bytes) => {
      const certificate = uki.decodeCertificate(bytes);
      uki.isSignedBy(certificate, (await keys()).certificate);
    },
  ),
  target(
    "pem",
    async () => [text(uki.encodePem("CERTIFICATE", (await keys()).certificate.der)), text((await keys()).pem)],
    async (bytes) => {
      uki.decodePem(bytes);
      uki.pemSigner(bytes, { passphrase: "fuzz" });
    },
  ),
  target(
    "signature lists",
    async () => [await database()],
    async (bytes) => void uki.signatureDatabase(uki.decodeSignatureLists(bytes)),
    { hot: [[0, 48]] },
  ),
  target(
    "authenticated variable",
    async () => {
      const { signer, certificate } = await keys();
      return [await uki.signVariable({ name: "db", data: await database(), timestamp: TIME, signer, certificate })];
    },
    async (bytes) => void uki.verifyVariable(bytes, { name: "db", trusted: [(await keys()).certificate] }),
    { hot: [[0, 60]] },
  ),
  target(
    "event log",
    async () => [eventLog()],
    async (bytes) => {
      const log = uki.decodeEventLog(bytes);
      for (const event of log.events) uki.describeEvent(event);
      uki.replayEventLog(log);
    },
  ),
  target(
    "partition table",
    async () => [partitionTable()],
    async (bytes) => void uki.predictPcr5({ disk: bytes }),
    { hot: [[512, 604]] },
  ),
  target(
    "variable store",
    async () => {
      const variable = (name, size) => ({ name, guid: OWNER, attributes: 7, data: new Uint8Array(size) });
      return [uki.encodeVariableStore(emptyStore(), [variable("Boot", 5), variable("Next", 0)])];
    },
    async (bytes) => {
      const { variables } = uki.decodeVariableStore(bytes);
      uki.encodeVariableStore(bytes, variables);
    },
    { hot: [[0, 0xe0]] },
  ),
  target(
    "pcrsig",
    async () => {
      const { signer } = await keys();
      const policies = uki.predictPcrPolicies({ sections: [], banks: ["sha256"], phasePaths: ["enter-initrd"] });
      return [text(uki.renderPcrSignatures(await uki.signPcrPolicies(policies, signer, signer.publicKey)))];
    },
    async (bytes) => {
      for (const one of uki.parsePcrSignatures(bytes)) uki.verifyPcrSignature(one, (await keys()).signer.publicKey);
    },
  ),
  target(
    "hwids",
    async () => [
      uki.encodeHardwareIds([
        { type: "devicetree", name: "Laptop", compatible: "hare,laptop", hwids: [CHID] },
        { type: "uefi-fw", name: "Board", fwid: "board", hwids: [CHID] },
      ]),
    ],
    async (bytes) => void uki.decodeHardwareIds(bytes),
  ),
  target(
    "machine description",
    async () => [text(JSON.stringify({ name: "Laptop", compatible: "hare,laptop", hwids: [CHID] }))],
    async (bytes) => void uki.parseHardwareDescription(Buffer.from(bytes).toString("utf8")),
  ),
  target(
    "kernel",
    async () => [zboot(), new Uint8Array(gzipSync(text("Linux version 6.12.0 (a@b) #1")))],
    async (bytes) => void uki.readKernelRelease(uki.unpackKernel(bytes)),
    { hot: [[0, 32]] },
  ),
  target(
    "sbat",
    async () => [text("sbat,1,SBAT Version,sbat,1,https://example.org\nhare,1,Hare,hare,1,https://example.org\n\0")],
    async (bytes) => void uki.mergeSbat([Buffer.from(bytes).toString("latin1")]),
  ),
  target(
    "pkcs11 answers",
    async () => [recordedAnswers()],
    async (bytes) => {
      const connect = async () => playing(bytes);
      const signer = await uki.pkcs11Signer("pkcs11:token=hare;object=db", { pin: "1234", connect });
      try {
        await signer.signDigest("sha256", new Uint8Array(32).fill(7));
      } finally {
        await signer.close();
      }
    },
  ),
  target(
    "pkcs11 uri",
    async () => [
      text("pkcs11:token=%68are;object=db;id=%01;type=private?pin-source=file:/run/pin&module-path=/lib/a.so"),
    ],
    async (bytes) => void uki.parsePkcs11Uri(Buffer.from(bytes).toString("utf8")),
  ),
  target(
    "remote answers",
    async () => {
      const { body } = await remoteMessages();
      return [text(JSON.stringify({ kind: "uki-signing-requests", version: 1, requests: [body] })), text("{}")];
    },
    async (bytes) => {
      const { address, answer } = await playingServer();
      answer(bytes);
      await uki.listSigningRequests(address, { token: TOKEN });
    },
  ),
  target(
    "remote requests",
    async () => [text(JSON.stringify((await remoteMessages()).request)), text("{}")],
    async (bytes) => {
      const { address } = await signingServer();
      const status = await post(`${address}/v1/requests`, bytes);
      if (status !== 200 && status !== 400) throw new Error(`expected status 200 or 400, got ${status}`);
      if (status === 400) {
        const refused = isJson(bytes) ? "UKI_SIGN_REMOTE_REFUSED" : "UKI_SIGN_REMOTE";
        throw new uki.UkiSignError(refused, "the server takes no such request");
      }
    },
  ),
  target(
    "verity signature",
    async () => {
      const { signer, certificate } = await keys();
      const rootHash = "ab".repeat(32);
      const signature = await uki.signRootHash(rootHash, { signer, certificate });
      return [uki.encodeVeritySignaturePartition({ rootHash, signature, certificate }).subarray(0, 4096)];
    },
    async (bytes) => void uki.decodeVeritySignaturePartition(bytes),
  ),
];

/** A PE image of one section and of an unsigned size that a signature does not change. */
function image(sections = [[".text", text("code")]]) {
  const bytes = new Uint8Array(0x400 + sections.length * 0x200);
  const view = new DataView(bytes.buffer);
  const u16 = (offset, value) => view.setUint16(offset, value, true);
  const u32 = (offset, value) => view.setUint32(offset, value, true);
  bytes.set(text("MZ"));
  u32(0x3c, 0x40);
  bytes.set(text("PE\0\0"), 0x40);
  u16(0x44, 0x8664); // Machine
  u16(0x46, sections.length);
  u16(0x54, 0xf0); // SizeOfOptionalHeader
  u16(0x58, 0x20b); // PE32+
  u32(0x78, 0x1000); // SectionAlignment
  u32(0x7c, 0x200); // FileAlignment
  u32(0x90, 0x1000 * (sections.length + 1)); // SizeOfImage
  u32(0x94, 0x400); // SizeOfHeaders
  u16(0x9c, 10); // Subsystem
  u32(0xc4, 16); // NumberOfRvaAndSizes
  for (const [index, [name, data]] of sections.entries()) {
    const header = 0x148 + index * 40;
    bytes.set(text(name), header);
    u32(header + 8, data.length);
    u32(header + 12, 0x1000 * (index + 1));
    u32(header + 16, 0x200);
    u32(header + 20, 0x400 + index * 0x200);
    bytes.set(data, 0x400 + index * 0x200);
  }
  return bytes;
}

/** What a unified kernel image of two profiles looks like to a reader. */
function profiles() {
  const hash = createHash("sha256").update("kernel").digest();
  return image([
    [".linux", hash],
    [".cmdline", text("quiet")],
    [".profile", text("ID=main\nTITLE=Main\n")],
    [".profile", text('ID="debug"\n')],
    [".cmdline", text("debug")],
  ]);
}

/** An EFI zboot image: a PE image that says where a packed kernel is in it. */
function zboot() {
  const bytes = image([[".text", gzipSync(text("Linux version 6.12.0 (a@b) #1"))]]);
  const view = new DataView(bytes.buffer);
  bytes.set(text("zimg"), 4);
  view.setUint32(8, 0x400, true);
  view.setUint32(12, 0x80, true);
  return bytes;
}

/** An empty store: firmware volume header, store header, and a working block for writes that a power cut interrupts. */
function emptyStore() {
  const bytes = new Uint8Array(0x3000).fill(0xff);
  const view = new DataView(bytes.buffer);
  bytes.fill(0, 0, 0x64);
  bytes.set(uki.encodeGuid("fff12b8d-7696-4c8b-a985-2747075b4f50"), 16);
  view.setBigUint64(32, BigInt(bytes.length), true);
  bytes.set(text("_FVH"), 40);
  view.setUint32(44, 0x0004feff, true);
  view.setUint16(48, 0x48, true);
  bytes[55] = 2;
  view.setUint32(56, bytes.length / 0x1000, true);
  view.setUint32(60, 0x1000, true);
  let sum = 0;
  for (let at = 0; at < 0x48; at += 2) sum += view.getUint16(at, true);
  view.setUint16(50, -sum & 0xffff, true);
  bytes.set(uki.encodeGuid("aaf32c78-947b-439a-a180-2e144ec37792"), 0x48);
  view.setUint32(0x48 + 16, 0x400, true);
  bytes.set([0x5a, 0xfe], 0x48 + 20);
  bytes.set(uki.encodeGuid("9e58292b-7c68-497d-a0ce-6500fd9f1b95"), 0x1000);
  bytes.set(Buffer.from("2caf2c64feffffffe00f000000000000", "hex"), 0x1000 + 16);
  return bytes;
}

async function database() {
  const lists = [{ type: "sha256", signatures: [{ owner: OWNER, data: new Uint8Array(32) }] }];
  return uki.encodeSignatureDatabase([(await keys()).certificate, ...lists], OWNER);
}

/** A crypto-agile log: its header, a variable, a program and a separator. */
function eventLog() {
  const u32 = (value) => new Uint8Array(Uint32Array.of(value).buffer);
  const digest = (data) => createHash("sha256").update(data).digest();
  const header = [
    text("Spec ID Event03\0"),
    Uint8Array.of(0, 0, 0, 0, 0, 2, 0, 2),
    u32(1),
    Uint8Array.of(11, 0, 32, 0, 0),
  ];
  const specId = Buffer.concat(header);
  const event = (pcr, type, data) =>
    Buffer.concat([u32(pcr), u32(type), u32(1), Uint8Array.of(11, 0), digest(data), u32(data.length), data]);
  const variable = Buffer.concat([
    uki.encodeGuid(OWNER),
    u32(2),
    u32(0),
    u32(3),
    u32(0),
    Buffer.from("db", "utf16le"),
    text("abc"),
  ]);
  return new Uint8Array(
    Buffer.concat([
      ...[u32(0), u32(3), new Uint8Array(20), u32(specId.length), specId],
      event(7, 0x8000_0001, variable),
      event(4, 0x8000_0003, Buffer.concat([new Uint8Array(24), u32(4), u32(0), Uint8Array.of(0x7f, 0xff, 4, 0)])),
      event(4, 4, u32(0)),
    ]),
  );
}

/** A request about an image, and what a server says about it. */
async function remoteMessages() {
  const description = uki.describePe(
    image([
      [".linux", text("kernel")],
      [".osrel", text("ID=hare\n")],
    ]),
    { name: "a.efi" },
  );
  const ask = { version: 1, hash: "sha256", padding: "pkcs1", digest: "07".repeat(32), description };
  const state = { client: "fuzz", state: "pending", approvals: ["ann"], approvalsNeeded: 2 };
  const expiresAt = TIME.toISOString();
  return { request: ask, body: { ...ask, kind: "uki-signing-request", id: "0".repeat(32), ...state, expiresAt } };
}

const signingServer = shared(async () => {
  const { signer } = await keys();
  return uki.startSigningServer({ signer, clients: { fuzz: TOKEN }, anyDigest: true, expireMs: 100 });
});

function isJson(bytes) {
  try {
    JSON.parse(Buffer.from(bytes).toString());
    return true;
  } catch {
    return false;
  }
}

/** The status with which a server answers. */
async function post(url, body) {
  const headers = { authorization: `Bearer ${TOKEN}`, "content-length": body.length };
  const [response] = await once(request(url, { method: "POST", agent: false, headers }).end(body), "response");
  await once(response.resume(), "end");
  return response.statusCode;
}

/** A server that answers everything with the bytes it was last given. */
const playingServer = shared(async () => {
  let body = new Uint8Array();
  const server = createServer((_request, response) => response.end(body)).listen(0, "127.0.0.1");
  await once(server, "listening");
  const answer = (bytes) => {
    body = bytes;
  };
  return { address: `http://127.0.0.1:${server.address().port}`, answer };
});

/** What p11-kit answers while a token signs, see packages/uki-sign/test/fixtures/README.md. */
function recordedAnswers() {
  const path = new URL("../../packages/uki-sign/test/fixtures/softhsm.p11kit.hex", import.meta.url);
  return new Uint8Array(Buffer.from(readFileSync(path, "latin1").replaceAll(/\s/g, ""), "hex"));
}

/** A p11-kit server that answers with these bytes, whatever it is asked. */
function playing(answers) {
  let left = [Buffer.from(answers), null];
  return new Duplex({
    read() {
      this.push(left[0] ?? null);
      left = left.slice(1);
    },
    write: (_chunk, _encoding, done) => done(),
  });
}

/** A disk of 512-byte blocks with room for eight partitions, one of which is there. */
function partitionTable() {
  const bytes = new Uint8Array(2048);
  const view = new DataView(bytes.buffer);
  bytes.set(text("EFI PART"), 512);
  view.setBigUint64(512 + 72, 2n, true);
  view.setUint32(512 + 80, 8, true);
  view.setUint32(512 + 84, 128, true);
  bytes.set(uki.encodeGuid(OWNER), 1024);
  return bytes;
}

function text(value) {
  return new TextEncoder().encode(value);
}

/** Makes a thing once, when it is first asked for. */
function shared(make) {
  let promise;
  return () => {
    promise ??= make();
    return promise;
  };
}
