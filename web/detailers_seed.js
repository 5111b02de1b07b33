// The second seed of a regional sampler changes after each run, as its mode says.

import { app } from "../../scripts/app.js";

const LARGEST = 1125899906842624; // the largest seed that the editor itself draws
const NEXT = {
  increment: (seed) => Math.min(seed + 1, LARGEST),
  decrement: (seed) => Math.max(seed - 1, 0),
  randomize: () => Math.floor(Math.random() * LARGEST),
};

app.registerExtension({
  name: "Detailers.Seed",

  nodeCreated(node) {
    const widget = (name) => node.widgets?.find((widget) => widget.name === name);
    const mode = widget("seed_2nd_mode");
    if (!mode || !widget("seed_2nd")) return;
    mode.afterQueued = () => {
      const seed = widget("seed_2nd");
      if (NEXT[mode.value]) seed.value = NEXT[mode.value](seed.value);
    };
  },
});
