// npm run matrix: the generated matrices against foreign tools with every combination of options, which npm test tries
// a part of.
process.env.EROFS_META_FULL_MATRIX = "1";
process.env.UKI_SIGN_FULL_MATRIX = "1";
process.env.QEMU_HARNESS_FULL_MATRIX = "1";
process.env.VMM_NATIVE_FULL_MATRIX = "1";
process.env.LEVERET_KILLS ??= "200";
process.argv.push("matrix");
await import("./test.mjs");
