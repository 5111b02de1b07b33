// Images that are saved in the workflow.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { placesOf, plainType, valueAt, widget } from "./detailers_graph.js";

const KEPT = "[IMAGE DATA]"; // what the text field shows instead of the image
const PROPERTY = "detailers_image";
const FILE = "detailers_image_file"; // the file whose content it is

/** The content of a file such as "a/b.png [temp]", as text. */
async function contentOf(file) {
  const [, path, type] = String(file).match(/^(.*?)(?: \[(\w+)\])?$/s);
  const [, subfolder, filename] = path.match(/^(?:(.*)\/)?(.*)$/s);
  const query = new URLSearchParams({ filename, subfolder: subfolder ?? "", type: type ?? "input" });
  const answer = await api.fetchApi(`/view?${query}`);
  if (!answer.ok) throw new Error(`${file}: ${answer.status}`);
  const blob = await answer.blob();
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

/** The value of a widget that is used in all places of a node; undefined if they differ. */
function only(node, name) {
  const values = new Set(placesOf(node).map((place) => valueAt(place, name)));
  return values.size === 1 ? [...values][0] : undefined;
}

/** Saves the receiver's image with the node, if the user wants this. */
async function keepImage(node) {
  const data = widget(node, "image_data");
  const file = only(node, "image");
  if (node.properties[PROPERTY] && node.properties[FILE] === file && data.value === KEPT) {
    if (only(node, "save_to_workflow") === true) return;
  }
  delete node.properties[PROPERTY];
  delete node.properties[FILE];
  data.value = "";
  if (only(node, "save_to_workflow") !== true || !file) return;
  try {
    const content = await contentOf(file);
    if (only(node, "image") !== file) return; // another image has arrived meanwhile
    node.properties[PROPERTY] = content;
    node.properties[FILE] = file;
    data.value = KEPT;
  } catch (error) {
    console.warn("Detailers: the image cannot be saved in the workflow", error);
  }
}

function prepareReceiver(node) {
  const data = widget(node, "image_data");
  if (!data) return;
  data.serializeValue = async () => {
    // Another node may show the widgets, and then this node gets no event when they change.
    const file = node.properties[FILE];
    if (file !== undefined && file !== only(node, "image")) await keepImage(node);
    return data.value === KEPT ? (node.properties[PROPERTY] ?? "") : data.value;
  };
  node.detailersValueSet = () => keepImage(node);
  for (const name of ["image", "save_to_workflow"]) {
    const target = widget(node, name);
    const changed = target.callback;
    target.callback = function (...args) {
      changed?.apply(this, args);
      keepImage(node);
    };
  }
}

app.registerExtension({
  name: "Detailers.Bridge",

  nodeCreated(node) {
    if (plainType(node) === "ImageReceiver") prepareReceiver(node);
  },

  loadedGraphNode(node) {
    if (plainType(node) !== "ImageReceiver") return;
    const data = widget(node, "image_data");
    if (data?.value?.startsWith?.("data:")) {
      node.properties[PROPERTY] = data.value;
      data.value = KEPT;
    }
  },
});
