// What the pack's extensions ask of the graph that is shown.

import { app } from "../../scripts/app.js";

const SUBGRAPH_INPUT = "-10"; // the node that stands for a subgraph's inputs inside it

export const root = () => app.canvas && (app.rootGraph ?? app.graph);

const PACK = decodeURIComponent(new URL(".", import.meta.url).pathname.split("/").at(-2));

/** Whether a node's definition is one of this pack. */
export const isOurs = (definition) => definition.python_module === `custom_nodes.${PACK}`;

/**
 * A node's id, without the ending that it has beside another pack with the same ids. Another pack's
 * node of such an id has none.
 */
export const plainType = (node) => {
  const definition = node.constructor?.nodeData;
  if (definition?.python_module && !isOurs(definition)) return "";
  return (node.comfyClass ?? node.type ?? "").replace(/ \/\/Detailers$/, "");
};

export const widget = (node, name) => node.widgets?.find((w) => w.name === name);

/**
 * Every place where a node is: one inside a subgraph is once in each subgraph node of that kind.
 *
 * @returns objects with the `node`, the subgraph nodes around it, outermost first, as `holders`, and
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

/** The place at the end of a path such as "5:3", which leads through subgraphs. */
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
 * Where the value of a node's widget is that counts: in the widget itself, in that of a subgraph
 * node which shows it, or in a primitive that is linked to it.
 *
 * @returns {node, widget}, or null where there is no such widget or its value comes from a run.
 */
export function counted({ node, holders }, name) {
  const own = widget(node, name);
  if (!own) return null;
  let found = { node, widget: own };
  if (!node.graph) return { node, widget: own }; // it is being made
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

/** The link at an input of a node; that from outside, for a subgraph node. */
const linkInto = (node, slot) => LiteGraph.LGraphNode.prototype.getInputLink.call(node, slot);

const widgetOfInput = (node, input) =>
  input && (node.getWidgetFromSlot?.(input) ?? widget(node, input.widget?.name ?? input.name));

/** Where a node's widget counts, as by `counted`: [place, widget], once for all places that share it. */
export function countedOnce(node, name) {
  const found = new Map();
  for (const place of placesOf(node)) {
    const at = counted(place, name);
    const key = at && `${at.node.id} ${at.widget.name}`;
    if (at && !found.has(key)) found.set(key, [place, at.widget]);
  }
  return [...found.values()];
}

/** The value of a widget that counts; undefined where that is not known before a run. */
export const valueAt = (place, name) => counted(place, name)?.widget.value;

/** Gives a widget of a node a value where it counts, as if it was typed; says if there is one. */
export function setValue(place, name, value) {
  const found = counted(place, name);
  if (!found) return false;
  found.widget.value = value;
  found.widget.callback?.(value, app.canvas, found.node);
  // What a node does about a new value, where another node shows the widget.
  if (found.node !== place.node) place.node.detailersValueSet?.(name);
  found.node.graph?.setDirtyCanvas(true, true);
  return true;
}

/** The value that a control ("increment" and so on) makes of a number; undefined for none. */
export function controlled(value, control, { min = 0, max = Infinity } = {}) {
  const [low, high] = [Math.max(min, 0), Math.min(max, LARGEST)];
  if (typeof value !== "number") return undefined;
  if (control === "increment") return Math.min(value + 1, high);
  if (control === "decrement") return Math.max(value - 1, low);
  if (control === "randomize") return low + Math.floor(Math.random() * (high - low + 1));
  return undefined;
}

const LARGEST = 1125899906842624; // the largest seed that the editor itself draws

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

/** The place that another one names by its number: in its own subgraph, else in those around it. */
export function placeNear(graph, sender, id) {
  const level = String(sender ?? "").split(":").slice(0, -1);
  for (;;) {
    const place = graph.at([...level, id].join(":"));
    if (place || !level.length) return place;
    level.pop();
  }
}
