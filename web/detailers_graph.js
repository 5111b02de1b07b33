// Helpers with which the pack's extensions read and change the graph that is shown.

import { app } from "../../scripts/app.js";

const SUBGRAPH_INPUT = "-10"; // the node that stands for a subgraph's inputs inside it

export const root = () => app.canvas && (app.rootGraph ?? app.graph);

const PACK = decodeURIComponent(new URL(".", import.meta.url).pathname.split("/").at(-2));

/** Whether a node's definition belongs to this pack. */
export const isOurs = (definition) => definition.python_module === `custom_nodes.${PACK}`;

/**
 * The plain id of a node, without the suffix that it gets if another pack has the same ids. A node
 * of another pack with such an id has none.
 */
export const plainType = (node) => {
  const definition = node.constructor?.nodeData;
  if (definition?.python_module && !isOurs(definition)) return "";
  return (node.comfyClass ?? node.type ?? "").replace(/ \/\/Detailers$/, "");
};

export const widget = (node, name) => node.widgets?.find((w) => w.name === name);

/**
 * All places of a node. A node inside a subgraph has a place in each subgraph node of that kind.
 *
 * @returns objects with the `node`, the subgraph nodes around it as `holders`, outermost first, and
 * its `path`, such as "5:3".
 */
export function* places(graph = root(), holders = []) {
  for (const node of graph?.nodes ?? []) {
    yield placeOf(node, holders);
    if (node.subgraph) yield* places(node.subgraph, [...holders, node]);
  }
}

const placeOf = (node, holders) => ({
  node,
  holders,
  path: [...holders, node].map(({ id }) => id).join(":"),
});

/** The places of one node. */
export const placesOf = (node) => [...places()].filter((place) => place.node === node);

/** The place with a path such as "5:3": node 3 inside the subgraph node 5. */
export function placeAt(path) {
  let graph = root();
  const nodes = [];
  for (const id of String(path).split(":")) {
    const node = graph?.getNodeById(Number.isNaN(Number(id)) ? id : Number(id));
    if (!node) return null;
    nodes.push(node);
    graph = node.subgraph;
  }
  return placeOf(nodes.at(-1), nodes.slice(0, -1));
}

/**
 * The widget that holds the used value of a node's widget: the widget itself, the widget of a
 * subgraph node that shows it, or that of a primitive that is linked to it.
 *
 * @returns {node, widget}, or null if there is no such widget or the value is made in the run.
 */
export function counted({ node, holders }, name) {
  const own = widget(node, name);
  if (!own) return null;
  let found = { node, widget: own };
  if (!node.graph) return { node, widget: own }; // the node is not in a graph yet
  let slot = (node.inputs ?? []).findIndex((input) => input.widget?.name === name);
  const around = [...holders];
  for (let at = node; ; ) {
    const link = slot < 0 ? null : linkInto(at, slot);
    if (!link) return found;
    if (String(link.origin_id) === SUBGRAPH_INPUT) {
      at = around.pop();
      slot = link.origin_slot;
      const shown = at && widgetOfInput(at, at.inputs?.[slot]);
      if (shown) found = { node: at, widget: shown };
      if (!at?.inputs?.[slot]) return found;
      continue;
    }
    at = at.graph?.getNodeById(link.origin_id);
    if (at?.type === "PrimitiveNode" && at.widgets?.length) return { node: at, widget: at.widgets[0] };
    if (at?.type !== "Reroute") return null;
    slot = 0;
  }
}

/** The link at an input of a node; for a subgraph node, the link from outside. */
const linkInto = (node, slot) => LiteGraph.LGraphNode.prototype.getInputLink.call(node, slot);

const widgetOfInput = (node, input) =>
  input && (node.getWidgetFromSlot?.(input) ?? widget(node, input.widget?.name ?? input.name));

/** The used widgets of a node (see `counted`) as [place, widget], each widget once. */
export function countedOnce(node, name) {
  const found = new Map();
  for (const place of placesOf(node)) {
    const at = counted(place, name);
    const key = at && `${at.node.id} ${at.widget.name}`;
    if (at && !found.has(key)) found.set(key, [place, at.widget]);
  }
  return [...found.values()];
}

/** The used value of a widget; undefined if it is not known before a run. */
export const valueAt = (place, name) => counted(place, name)?.widget.value;

/** Sets the used value of a node's widget as if it was typed. Tells whether there is a widget. */
export function setValue(place, name, value) {
  const found = counted(place, name);
  if (!found) return false;
  found.widget.value = value;
  found.widget.callback?.(value, app.canvas, found.node);
  // If another node shows the widget, the node itself has to react to the new value, too.
  if (found.node !== place.node) place.node.detailersValueSet?.(name);
  found.node.graph?.setDirtyCanvas(true, true);
  return true;
}

/** Acts on every new value of a node's widget, whether it is set in the node or where it is used. */
export function onValue(node, name, act) {
  const own = widget(node, name);
  if (!own) return;
  const changed = own.callback;
  own.callback = function (...args) {
    const result = changed?.apply(this, args);
    act();
    return result;
  };
  node.detailersValueSet = (set) => set === name && act();
}

/** A number after a control ("increment" and so on) has changed it; undefined if it has not. */
export function controlled(value, control, { min = 0, max = Infinity } = {}) {
  const [low, high] = [Math.max(min, 0), Math.min(max, LARGEST)];
  if (typeof value !== "number") return undefined;
  if (control === "increment") return Math.min(value + 1, high);
  if (control === "decrement") return Math.max(value - 1, low);
  if (control === "randomize") return low + Math.floor(Math.random() * (high - low + 1));
  return undefined;
}

const LARGEST = 1125899906842624; // the largest random seed of the editor

/** The graph that is shown, as the messages of running nodes treat it. */
export const shown = {
  places,
  at: placeAt,
  type: ({ node }) => plainType(node),
  get: valueAt,
  set: setValue,

  /** Adds an entry to a choice. */
  offer(place, name, value) {
    const values = counted(place, name)?.widget.options?.values;
    if (Array.isArray(values) && !values.includes(value)) values.push(value);
  },

  setMode({ node }, mode) {
    node.mode = mode;
    node.graph?.setDirtyCanvas(true, true);
  },
};

/** The place that another one names by a node id: in its own subgraph or in one around it. */
export function placeNear(graph, sender, id) {
  const level = String(sender ?? "").split(":").slice(0, -1);
  for (;;) {
    const place = graph.at([...level, id].join(":"));
    if (place || !level.length) return place;
    level.pop();
  }
}
