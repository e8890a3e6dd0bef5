// Which places of instrumented code have run, see instrument.mjs.

/** How many places have run. */
export const coverage = { reached: 0 };

/** What each instrumented module begins with: marks look into `seen`, and call `reach` with what they do not find there. */
globalThis.watchPlaces = (places) => {
  const seen = new Uint8Array(places);
  const reach = (place) => {
    seen[place] = 1;
    coverage.reached += 1;
  };
  return { seen, reach };
};
