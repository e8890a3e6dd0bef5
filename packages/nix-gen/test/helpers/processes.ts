import { readdirSync, readFileSync } from "node:fs";

/** Command lines of the processes (without this one) that have `text` in their arguments or environment. */
export function processesNaming(text: string): string[] {
  return readdirSync("/proc").flatMap((pid) => {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) return [];
    try {
      const argv = readFileSync(`/proc/${pid}/cmdline`, "utf8");
      return `${argv}${readFileSync(`/proc/${pid}/environ`, "utf8")}`.includes(text)
        ? [argv.replaceAll("\0", " ")]
        : [];
    } catch {
      // It has ended since, or belongs to somebody else.
      return [];
    }
  });
}
