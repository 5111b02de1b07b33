// Does in the editor what running nodes ask for: queue again, mute, set values, pass results on.

import { app } from "../../scripts/app.js";
import { placeNear, plainType, shown } from "./detailers_graph.js";
import { goOn, onMessage, queueAgain } from "./detailers_workflow.js";

const OUTPUT = 2;
const RECEIVERS = {
  image: "ImageReceiver",
  latent: "LatentReceiver",
  value: "ImpactValueReceiver",
};

const find = (graph, sender, id) => (sender == null ? graph.at(id) : placeNear(graph, sender, id));

const actions = {
  queue: queueAgain,

  stop(graph) {
    if (graph !== shown) return; // the editor only auto-queues the workflow that it shows
    const settings = app.extensionManager?.queueSettings;
    if (settings) settings.mode = "disabled";
    if (app.ui) app.ui.autoQueueEnabled = false;
  },

  widget(graph, { sender, node: id, widget: name, value, was }) {
    const place = find(graph, sender, id);
    // If the user has changed the value meanwhile, the user's value stays.
    if (place && was !== undefined && graph.get(place, name) !== was) return;
    if (place && graph.set(place, name, value)) return;
    console.warn(`Detailers: node ${id} has no value "${name}" that can be set`);
  },

  async mode(graph, message) {
    const { sender, nodes, mode, queue } = message;
    for (const id of nodes) {
      const place = find(graph, sender, id);
      if (place) graph.setMode(place, mode);
      else console.warn(`Detailers: there is no node ${id} to mute or to make active`);
    }
    if (queue) await goOn(graph, message);
  },

  async send(graph, message) {
    const { kind, link_id: link, value, typ } = message;
    let again = false;
    for (const place of graph.places()) {
      if (graph.type(place) !== RECEIVERS[kind]) continue;
      if (Number(graph.get(place, "link_id")) !== Number(link)) continue;
      if (typ) graph.set(place, "typ", typ);
      graph.offer(place, kind, value);
      if (graph.set(place, kind, value)) again ||= graph.get(place, "trigger_always") === true;
    }
    if (again) await queueAgain(graph, message);
  },
};

/** Adds or removes outputs at the end until only the last one is free. */
function fitOutputs(node) {
  const isUsed = (slot) => slot >= 0 && node.isOutputConnected(slot);
  const last = () => node.outputs.length - 1;
  if (isUsed(last())) node.addOutput(`output${node.outputs.length + 1}`, "*");
  while (last() > 0 && !isUsed(last()) && !isUsed(last() - 1)) node.removeOutput(last());
}

app.registerExtension({
  name: "Detailers.Flow",

  setup() {
    for (const [name, action] of Object.entries(actions)) onMessage(name, action);
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
