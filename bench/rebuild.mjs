// How long a person waits for an image who has changed nothing, or one file.
import { interleave, row } from "./measure.mjs";

const SECOND = 1000;

export async function nothingChanged({ project, rounds = 3 }) {
  const ours = await project();
  const values = await interleave(rounds, {
    ours: async () => {
      const { image, ms } = await ours.image();
      if (!image.upToDate) throw new Error("expected an image that is up to date, got a new one");
      return ms;
    },
  });
  return [row("image, nothing changed", { unit: "ms", ours: values.ours, target: 2 * SECOND, below: true })];
}

export async function oneFile({ project, rounds = 2 }) {
  const ours = await project();
  const values = await interleave(rounds, {
    ours: async () => {
      await ours.changeTree();
      const { image, ms } = await ours.image();
      if (image.upToDate) throw new Error("expected a new image, got the one before");
      await ours.noteLeftovers("usr", "artefacts");
      return ms;
    },
  });
  return [row("image, one file changed", { unit: "ms", ours: values.ours, target: 15 * SECOND, below: true })];
}
