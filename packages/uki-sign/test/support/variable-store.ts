/**
 * An empty EDK II variable store: firmware volume header, store header, a working block for fault-tolerant writes, spare
 * blocks. Written from the specification and not with this package's encoder.
 */
export function emptyStore({ sizeBytes, storeBytes }: { sizeBytes: number; storeBytes: number }): Uint8Array {
  const image = new Uint8Array(sizeBytes).fill(0xff);
  const view = new DataView(image.buffer);
  image.fill(0, 0, 0x64);
  image.set(Buffer.from("8d2bf1ff96768b4ca9852747075b4f50", "hex"), 16);
  view.setBigUint64(32, BigInt(sizeBytes), true);
  image.set(new TextEncoder().encode("_FVH"), 40);
  view.setUint32(44, 0x0004feff, true);
  view.setUint16(48, 0x48, true);
  image[55] = 2;
  view.setUint32(56, sizeBytes / 0x1000, true);
  view.setUint32(60, 0x1000, true);
  let sum = 0;
  for (let at = 0; at < 0x48; at += 2) sum += view.getUint16(at, true);
  view.setUint16(50, -sum & 0xffff, true);

  image.set(Buffer.from("782cf3aa7b949a43a1802e144ec37792", "hex"), 0x48);
  view.setUint32(0x48 + 16, storeBytes, true);
  image.set([0x5a, 0xfe], 0x48 + 20);

  const working = Math.ceil((0x48 + storeBytes) / 0x1000) * 0x1000;
  image.set(Buffer.from("2b29589e687c7d49a0ce6500fd9f1b95", "hex"), working);
  image.set(Buffer.from("2caf2c64feffffffe00f000000000000", "hex"), working + 16);
  return image;
}
