import { describe, expect, test } from "vitest";
import type { ImageRecord } from "../../src/image/image.ts";
import { assertVerified, checkReport, parseReport, REPORT_END, reportCredentials } from "../../src/machine/report.ts";

const RECORD = {
  id: "tiny",
  imageVersion: "1.0",
  rootHash: "ab".repeat(32),
  pcr11: { "enter-initrd": "00", "enter-initrd:leave-initrd:sysinit:ready": "11" },
} as unknown as ImageRecord;

const GOOD: Readonly<Record<string, string>> = {
  state: "running",
  "failed-units": "",
  "image-id": "tiny",
  "image-version": "1.0",
  "secure-boot": "1",
  "setup-mode": "0",
  lockdown: "none [integrity] confidentiality",
  "usr-mount": "/dev/mapper/usr erofs ro",
  "usr-table": `0 8 verity 1 8:2 8:3 4096 4096 1 1 sha256 ${RECORD.rootHash} 00 2 root_hash_sig_key_desc usr`,
  "usr-status": "0 8 verity V",
  "tpm-version": "2",
  "pcr-11": "11",
};

function reportOf(values: Readonly<Record<string, string>>): string {
  return ["report=begin", ...Object.entries(values).map((entry) => entry.join("=")), "report=end", ""].join("\n");
}

function failing(values: Readonly<Record<string, string>>): string[] {
  const checks = checkReport(RECORD, parseReport(reportOf(values)));
  return checks.filter(({ ok }) => !ok).map(({ name, found }) => `${name}: ${found}`);
}

describe("parseReport", () => {
  test("takes lines of name and value, whatever ends them", () => {
    const report = parseReport("noise\r\nreport=begin\r\nstate=running\r\nusr-table=a=b c\r\nreport=end\r\n");
    expect([...report]).toEqual([
      ["state", "running"],
      ["usr-table", "a=b c"],
    ]);
  });

  test("takes the last report of several, and no line that is none", () => {
    const report = parseReport("report=begin\nstate=a\nreport=begin\nstate=b\nNAME=1\n=2\nno value\nreport=end\n");
    expect([...report]).toEqual([["state", "b"]]);
  });

  test("keeps nothing that would steer a terminal", () => {
    const report = parseReport("report=begin\nstate=a\u001b]0;x\u0007\u009b2J\u202eb\nreport=end\n");
    expect(report.get("state")).toBe("a]0;x2Jb");
  });

  test("of nothing is empty", () => {
    expect(parseReport("").size).toBe(0);
  });

  test("ends where a report ends", () => {
    expect(REPORT_END.test(reportOf(GOOD))).toBe(true);
    expect(REPORT_END.test("report=begin\nkernel=report=end\n")).toBe(false);
  });
});

describe("checkReport", () => {
  test("finds nothing wrong with a machine that verified everything", () => {
    expect(failing(GOOD)).toEqual([]);
    expect(checkReport(RECORD, parseReport(reportOf(GOOD)))).toMatchSnapshot();
  });

  test.each([
    ["system state", { state: "degraded", "failed-units": "a.service b.service" }, "degraded a.service b.service"],
    [
      "system state",
      { state: "degraded", "failed-units": "a.service", "failed-reasons": "cannot open it;exit-code;" },
      "degraded a.service (cannot open it;exit-code;)",
    ],
    ["image", { "image-id": "other" }, "other 1.0"],
    ["image", { "image-version": "2.0" }, "tiny 2.0"],
    ["Secure Boot", { "secure-boot": "0" }, "SecureBoot=0 SetupMode=0"],
    ["kernel lockdown", { lockdown: "[none] integrity confidentiality" }, "[none] integrity confidentiality"],
    ["/usr on verity", { "usr-status": "0 8 verity C" }, "/dev/mapper/usr erofs ro"],
    ["/usr on verity", { "usr-table": GOOD["usr-table"]?.replace("ab", "cd") ?? "" }, "/dev/mapper/usr erofs ro"],
    [
      "root hash signature",
      { "usr-table": GOOD["usr-table"]?.replace("root_hash_sig_key_desc", "") ?? "" },
      "not checked",
    ],
    ["TPM", { "tpm-version": "" }, "version "],
    ["PCR 11", { "pcr-11": "00" }, "00, expected 11"],
  ])("sees what is wrong with %s: %j", (name, values, found) => {
    expect(failing({ ...GOOD, ...values })).toEqual([`${name}: ${found}`]);
  });

  test("sees that Secure Boot does not enforce in set-up mode", () => {
    expect(failing({ ...GOOD, "setup-mode": "1" })).toHaveLength(1);
  });

  test("fails everything when nothing was reported", () => {
    const checks = checkReport(RECORD, new Map());
    expect(checks.map(({ ok }) => ok)).toEqual(checks.map(() => false));
    const unpredicted = checkReport({ ...RECORD, pcr11: {} }, new Map());
    expect(unpredicted.at(-1)).toMatchObject({ name: "PCR 11", ok: false });
  });
});

test("the report comes into the machine as credentials, script and unit", async () => {
  const credentials = await reportCredentials();
  expect(Object.keys(credentials)).toEqual(
    expect.arrayContaining(["leveret.report", "systemd.extra-unit.leveret-report.service"]),
  );
  expect(credentials["leveret.report"]).toContain("report=begin");
  expect(credentials["systemd.extra-unit.leveret-report.service"]).toContain("ImportCredential=leveret.report");
});

describe("assertVerified", () => {
  test("names what is not verified", () => {
    const checks = checkReport(RECORD, parseReport(reportOf({ ...GOOD, state: "degraded", "pcr-11": "22" })));
    expect(() => assertVerified(checks)).toThrow(
      expect.objectContaining({ code: "OS_BOOT_UNVERIFIED", message: expect.stringContaining("system state, PCR 11") }),
    );
    expect(() => assertVerified(checkReport(RECORD, parseReport(reportOf(GOOD))))).not.toThrow();
  });
});
