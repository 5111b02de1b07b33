// Shows the text of a node's last run in the node, below its preview.

import { app } from "../../scripts/app.js";
import { removeBelow, scrollByWheel, showBelow } from "./detailers_below.js";

const NODES = ["PreviewTracks"];
const NAME = "detailers_text";
const MOST_HEIGHT = 150; // pixels of the graph; longer texts scroll
const TEXT = {
  boxSizing: "border-box", margin: "0", padding: "5px 8px", overflow: "auto",
  maxHeight: `${MOST_HEIGHT}px`, borderRadius: "4px", background: "rgba(128, 128, 128, 0.14)",
  color: "var(--input-text, #ddd)", font: "11px/15px Inter, Arial, sans-serif", textAlign: "left",
  whiteSpace: "pre-wrap", overflowWrap: "anywhere", userSelect: "text", cursor: "auto",
}; // prettier-ignore

function show(node, text) {
  if (!text) {
    removeBelow(node, NAME);
    return;
  }
  const element = document.createElement("div");
  element.className = "detailers-text";
  Object.assign(element.style, TEXT);
  element.textContent = text; // never as HTML
  scrollByWheel(element);
  showBelow(node, NAME, element);
}

app.registerExtension({
  name: "Detailers.Text",

  beforeRegisterNodeDef(nodeType, { name }) {
    if (!NODES.includes(name)) return;
    const before = nodeType.prototype.onExecuted;
    nodeType.prototype.onExecuted = function (output) {
      before?.apply(this, arguments);
      show(this, (output?.text ?? []).join("\n"));
    };
  },
});
