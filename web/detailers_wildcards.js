// Shows the texts that the server drew for wildcard nodes, and keeps their modes in order.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { allNodes, nodeAt, plainType, widget } from "./detailers_graph.js";

const NODES = new Set(["ImpactWildcardProcessor", "ImpactWildcardEncode"]);

const isWildcardNode = (node) => NODES.has(plainType(node));

/** What is drawn by the server is not for typing. */
function lockText(node) {
  const text = widget(node, "populated_text");
  if (!text) return;
  const locked = widget(node, "mode")?.value === "populate";
  const area = text.inputEl ?? text.element;
  if (area && "readOnly" in area) area.readOnly = locked;
  if (area?.style) area.style.opacity = locked ? 0.7 : 1;
}

app.registerExtension({
  name: "Detailers.Wildcards",

  setup() {
    api.addEventListener("detailers-populated", ({ detail }) => {
      const node = nodeAt(detail.node_id);
      const text = node && widget(node, "populated_text");
      if (text) text.value = detail.text;
    });
    api.addEventListener("promptQueued", () => {
      for (const node of allNodes()) {
        const mode = isWildcardNode(node) && widget(node, "mode");
        if (mode && mode.value === "reproduce") {
          mode.value = "populate";
          lockText(node);
        }
      }
    });
  },

  nodeCreated(node) {
    if (!isWildcardNode(node)) return;
    const mode = widget(node, "mode");
    if (!mode) return;
    const changed = mode.callback;
    mode.callback = function (...args) {
      changed?.apply(this, args);
      lockText(node);
    };
    lockText(node);
  },

  loadedGraphNode(node) {
    if (isWildcardNode(node)) lockText(node);
  },
});
