// Module hooks of a decoder's thread: its code is loaded as it was instrumented.
let sources = new Map();

export function initialize(instrumented) {
  sources = instrumented;
}

export function load(url, context, next) {
  const source = sources.get(url);
  return source === undefined ? next(url, context) : { format: "module", source, shortCircuit: true };
}
