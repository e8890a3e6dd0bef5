// A reporter for vitest: says why a test failed when it fails. The default one says it at the end, which a run that is
// stopped never reaches.
export default class EarlyFailures {
  onTestCaseResult(test) {
    const { state, errors = [] } = test.result();
    if (state !== "failed") return;
    const reasons = errors.map(({ stack, message }) => stack ?? message ?? "no reason").join("\n");
    process.stdout.write(`\nFAILED ${test.module.relativeModuleId} > ${test.fullName}\n${reasons}\n\n`);
  }
}
