// Adds the entry that is chosen under "Select to add ..." to the node's text, and resets the list.

import { app } from "../../scripts/app.js";
import { countedOnce, setValue, widget } from "./detailers_graph.js";

const LISTS = {
  "Select to add LoRA": {
    nothing: "Select the LoRA to add to the text",
    text: (file) => `<lora:${file.replace(/\.[^.\\/]+$/, "")}>`,
  },
  "Select to add Wildcard": {
    nothing: "Select the Wildcard to add to the text",
    text: (name) => name,
  },
};
const TEXTS = ["wildcard_text", "wildcard"];

/** Adds to the text of a node, in the widget whose value is used. */
function append(node, addition) {
  const name = TEXTS.find((text) => widget(node, text));
  for (const [place, text] of name ? countedOnce(node, name) : []) {
    const before = text.value ?? "";
    const gap = before === "" || /[\s,]$/.test(before) ? "" : ", ";
    setValue(place, name, before + gap + addition);
  }
}

app.registerExtension({
  name: "Detailers.Append",

  nodeCreated(node) {
    for (const [name, list] of Object.entries(LISTS)) {
      const combo = widget(node, name);
      if (!combo?.options?.values?.includes?.(list.nothing)) continue; // a node of another pack
      const changed = combo.callback;
      combo.callback = function (value, ...rest) {
        changed?.call(this, value, ...rest);
        if (!value || value === list.nothing) return;
        append(node, list.text(value));
        combo.value = list.nothing;
      };
    }
  },
});
