// Nodes that take a video and show pictures, which may move: they are shown as pictures, and large
// enough to see what is drawn in them.

import { app } from "../../scripts/app.js";
import { isOurs, widget } from "./detailers_graph.js";
import { urlOf } from "./detailers_outputs.js";

const OWN_WIDGET = "$$comfy_animation_preview"; // of the editor
const MOST_HEIGHT = 420; // pixels of the graph that a node gives to its picture by itself

const takesVideo = ({ input }) =>
  Object.values({ ...input?.required, ...input?.optional }).some(([type]) => type === "VIDEO");

/** Gives a node on the canvas the height for its picture. The editor gives it a narrow strip. */
async function makeRoom(node, entry) {
  const picture = new Image();
  picture.setAttribute("src", urlOf(entry));
  try {
    await picture.decode();
  } catch {
    return; // it is gone
  }
  if (!node.graph || LiteGraph.vueNodesMode) return;
  const [width, height] = node.size;
  const wanted = Math.min((width * picture.naturalHeight) / picture.naturalWidth, MOST_HEIGHT);
  const least = Math.ceil(node.computeSize()[1] + wanted);
  if (height < least) node.setSize([width, least]);
  node.setDirtyCanvas?.(true, true);
}

app.registerExtension({
  name: "Detailers.Animation",

  beforeRegisterNodeDef(nodeType, definition) {
    if (!isOurs(definition) || !takesVideo(definition)) return;
    if (definition.output?.includes("VIDEO")) return;
    // Nodes 2.0 would open a player for videos, which cannot show it.
    nodeType.prototype.previewMediaType = "image";
    const before = nodeType.prototype.onExecuted;
    nodeType.prototype.onExecuted = function (output) {
      before?.apply(this, arguments);
      const [entry] = output?.animated?.[0] ? (output.images ?? []) : [];
      // Only a first picture: afterwards the node has the size that the user gives it.
      if (entry && !LiteGraph.vueNodesMode && !widget(this, OWN_WIDGET)) makeRoom(this, entry);
    };
  },
});
