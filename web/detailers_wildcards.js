// Shows the texts that the server has made for wildcard nodes, and updates their modes.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { counted, places, placesOf, plainType, setValue, valueAt } from "./detailers_graph.js";
import { onMessage } from "./detailers_workflow.js";

const TYPES = new Set(["ImpactWildcardProcessor", "ImpactWildcardEncode"]);
const TEXT = "populated_text";

const isWildcardNode = (node) => TYPES.has(plainType(node));

/** Whether a text is made by the server, so that the user cannot edit it. */
function lock(place) {
  const text = counted(place, TEXT);
  const mode = valueAt(place, "mode");
  if (text && mode !== undefined) setReadOnly(text, mode === "populate");
}

/** Makes a text read-only, on the canvas or as an element of the page. */
function setReadOnly({ node, widget }, isReadOnly) {
  for (const options of [widget.options, widget._state?.options, storedOptions(node, widget)]) {
    if (options && !!options.read_only !== isReadOnly) options.read_only = isReadOnly;
  }
  const { element } = widget;
  if (!element || element.readOnly === isReadOnly) return;
  element.readOnly = isReadOnly;
  element.style.opacity = isReadOnly ? 0.7 : 1;
}

/** The state from which the page draws a subgraph node's text; the text has another one. */
function storedOptions(node, { name }) {
  const id = node.subgraph && node.inputs?.find((input) => input.name === name)?.widgetId;
  return id && app.extensionManager?._p?._s?.get("widgetValue")?.getWidget?.(id)?.options;
}

function lockAll() {
  for (const place of places()) if (isWildcardNode(place.node)) lock(place);
}

app.registerExtension({
  name: "Detailers.Wildcards",

  setup() {
    onMessage("populated", (graph, { node: path, text }) => {
      const place = graph.at(path);
      if (!place || !TYPES.has(graph.type(place))) return;
      if (graph.get(place, "mode") === "populate") graph.set(place, TEXT, text);
    });
    api.addEventListener("promptQueued", () => {
      for (const place of places()) {
        if (isWildcardNode(place.node) && valueAt(place, "mode") === "reproduce") {
          setValue(place, "mode", "populate");
        }
      }
      lockAll();
    });
    // A mode may be chosen at a subgraph node, which sends no event.
    api.addEventListener("graphChanged", lockAll);
    document.addEventListener("focusin", lockAll);
  },

  nodeCreated(node) {
    const mode = isWildcardNode(node) && node.widgets?.find(({ name }) => name === "mode");
    if (!mode) return;
    const changed = mode.callback;
    mode.callback = function (...args) {
      changed?.apply(this, args);
      placesOf(node).forEach(lock);
    };
    lock({ node, holders: [] });
  },

  afterConfigureGraph: lockAll,
});
