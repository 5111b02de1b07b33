// The second seed of a regional sampler changes after each run, as its mode says.

import { app } from "../../scripts/app.js";
import { controlled, counted, placesOf, widget } from "./detailers_graph.js";

app.registerExtension({
  name: "Detailers.Seed",

  nodeCreated(node) {
    const mode = widget(node, "seed_2nd_mode");
    if (!mode || !widget(node, "seed_2nd")) return;
    mode.afterQueued = () => {
      const next = new Map(); // two places may have one seed between them
      for (const place of placesOf(node)) {
        const seed = counted(place, "seed_2nd");
        const how = counted(place, "seed_2nd_mode")?.widget.value;
        const value = controlled(seed?.widget.value, how);
        if (value !== undefined) next.set(`${seed.node.id} ${seed.widget.name}`, [seed, value]);
      }
      for (const [seed, value] of next.values()) {
        seed.widget.value = value;
        seed.widget.callback?.(value, app.canvas, seed.node);
      }
    };
  },
});
