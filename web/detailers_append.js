// What is chosen under "Select to add ..." is added to the node's text, and the list jumps back.

import { app } from "../../scripts/app.js";

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

const widget = (node, name) => node.widgets?.find((w) => w.name === name);

function append(node, addition) {
  const target = TEXTS.map((name) => widget(node, name)).find(Boolean);
  if (!target) return;
  const before = target.value ?? "";
  const gap = before === "" || /[\s,]$/.test(before) ? "" : ", ";
  target.value = before + gap + addition;
  target.callback?.(target.value);
}

app.registerExtension({
  name: "Detailers.Append",

  nodeCreated(node) {
    for (const [name, list] of Object.entries(LISTS)) {
      const combo = widget(node, name);
      if (!combo?.options?.values?.includes?.(list.nothing)) continue; // of another pack
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
