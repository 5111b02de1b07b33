// Images that are kept in the workflow.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { plainType, widget } from "./detailers_graph.js";

const KEPT = "[IMAGE DATA]"; // what the text field shows instead of the image
const PROPERTY = "detailers_image";

/** The content of a file such as "a/b.png [temp]", as text. */
async function contentOf(file) {
  const [, path, type] = /^(.*?)(?: \[(\w+)\])?$/s.exec(file);
  const [, subfolder, filename] = /^(?:(.*)\/)?(.*)$/s.exec(path);
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

/** Keeps the receiver's image with the node, if the user wants it kept. */
async function keepImage(node) {
  const data = widget(node, "image_data");
  const file = widget(node, "image")?.value;
  delete node.properties[PROPERTY];
  data.value = "";
  if (widget(node, "save_to_workflow")?.value !== true || !file) return;
  try {
    const content = await contentOf(file);
    if (widget(node, "image").value !== file) return; // the next one has come meanwhile
    node.properties[PROPERTY] = content;
    data.value = KEPT;
  } catch (error) {
    console.warn("Detailers: the image cannot be kept in the workflow", error);
  }
}

function prepareReceiver(node) {
  const data = widget(node, "image_data");
  if (!data) return;
  data.serializeValue = () =>
    data.value === KEPT ? (node.properties[PROPERTY] ?? "") : data.value;
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
