// Does in the editor what running nodes ask for: queue again, mute, set values, hand results over.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { allNodes, nodeAt, nodeNear, plainType, setValue, widget } from "./detailers_graph.js";

const OUTPUT = 2;
const RECEIVERS = {
  image: "ImageReceiver",
  latent: "LatentReceiver",
  value: "ImpactValueReceiver",
};

const find = (sender, id) => (sender == null ? nodeAt(id) : nodeNear(sender, id));
const queue = () => app.queuePrompt(0, 1);

const actions = {
  queue,

  stop() {
    const settings = app.extensionManager?.queueSettings;
    if (settings) settings.mode = "disabled";
    if (app.ui) app.ui.autoQueueEnabled = false;
  },

  widget({ sender, node: id, widget: name, value, was }) {
    const node = find(sender, id);
    const target = node && widget(node, name);
    if (!target) console.warn(`Detailers: node ${id} has no value "${name}" to set`);
    // Where the user was faster, what he has changed meanwhile stays.
    else if (was === undefined || target.value === was) setValue(node, target, value);
  },

  mode({ sender, nodes, mode, queue: again }) {
    for (const id of nodes) {
      const node = find(sender, id);
      if (!node) console.warn(`Detailers: there is no node ${id} to mute or to make active`);
      else node.mode = mode;
      node?.graph?.setDirtyCanvas(true, true);
    }
    if (again) queue();
  },

  send({ kind, link_id, value, typ }) {
    let again = false;
    for (const node of allNodes()) {
      if (plainType(node) !== RECEIVERS[kind]) continue;
      if (Number(widget(node, "link_id")?.value) !== Number(link_id)) continue;
      const target = widget(node, kind);
      if (!target) continue;
      const choices = target.options?.values;
      if (Array.isArray(choices) && !choices.includes(value)) choices.push(value);
      if (typ) setValue(node, widget(node, "typ"), typ);
      setValue(node, target, value);
      again ||= widget(node, "trigger_always")?.value === true;
    }
    if (again) queue();
  },
};

/** Adds or removes outputs at the end until the last one, and only that, is a free spare. */
function fitOutputs(node) {
  const isUsed = (output) => output?.links?.length > 0;
  if (isUsed(node.outputs.at(-1))) node.addOutput(`output${node.outputs.length + 1}`, "*");
  while (node.outputs.length > 1 && !isUsed(node.outputs.at(-1)) && !isUsed(node.outputs.at(-2))) {
    node.removeOutput(node.outputs.length - 1);
  }
}

app.registerExtension({
  name: "Detailers.Flow",

  setup() {
    for (const [name, action] of Object.entries(actions)) {
      api.addEventListener(`detailers-${name}`, ({ detail }) => action(detail ?? {}));
    }
  },

  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name.replace(/ \/\/Detailers$/, "") !== "ImpactInversedSwitch") return;
    const changed = nodeType.prototype.onConnectionsChange;
    nodeType.prototype.onConnectionsChange = function (side, ...rest) {
      const result = changed?.call(this, side, ...rest);
      if (side === OUTPUT && !app.configuringGraph) fitOutputs(this);
      return result;
    };
  },

  nodeCreated(node) {
    if (plainType(node) === "ImpactInversedSwitch") node.outputs[0].label = "output1";
  },

  loadedGraphNode(node) {
    if (plainType(node) === "ImpactInversedSwitch") fitOutputs(node);
  },
});
