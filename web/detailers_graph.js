// What the pack's extensions ask of the graph.

import { app } from "../../scripts/app.js";

const root = () => app.rootGraph ?? app.graph;

/** A node's id, without the ending that it has beside another pack with the same ids. */
export const plainType = (node) =>
  (node.comfyClass ?? node.type ?? "").replace(/ \/\/Detailers$/, "");

export const widget = (node, name) => node.widgets?.find((w) => w.name === name);

/** The node at the end of a path such as "5:3", which leads through subgraphs. */
export function nodeAt(path) {
  let graph = root();
  let node = null;
  for (const id of String(path).split(":")) {
    node = graph?.getNodeById(Number.isNaN(Number(id)) ? id : Number(id));
    if (!node) return null;
    graph = node.subgraph;
  }
  return node;
}

/** The node that another one names by its number: in its own subgraph, else in those around it. */
export function nodeNear(sender, id) {
  const level = String(sender ?? "").split(":").slice(0, -1);
  for (;;) {
    const node = nodeAt([...level, id].join(":"));
    if (node || !level.length) return node;
    level.pop();
  }
}

/** Every node of the graph, those inside subgraphs too. */
export function* allNodes(graph = root()) {
  for (const node of graph?.nodes ?? []) {
    yield node;
    if (node.subgraph) yield* allNodes(node.subgraph);
  }
}

/** Gives a widget a value as if it was typed. */
export function setValue(node, target, value) {
  target.value = value;
  target.callback?.(value, app.canvas, node);
  node.graph?.setDirtyCanvas(true, true);
}
