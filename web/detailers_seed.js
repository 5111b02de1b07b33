// Changes the second seed of a regional sampler after each run, according to its mode.

import { app } from "../../scripts/app.js";
import { controlled, countedOnce, setValue, valueAt, widget } from "./detailers_graph.js";

app.registerExtension({
  name: "Detailers.Seed",

  nodeCreated(node) {
    const mode = widget(node, "seed_2nd_mode");
    if (!mode || !widget(node, "seed_2nd")) return;
    mode.afterQueued = () => {
      for (const [place, seed] of countedOnce(node, "seed_2nd")) {
        const next = controlled(seed.value, valueAt(place, "seed_2nd_mode"));
        if (next !== undefined) setValue(place, "seed_2nd", next);
      }
    };
  },
});
