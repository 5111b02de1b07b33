// Nodes of older workflows have more widgets today. Nodes that they would cover are moved down.

import { app } from "../../scripts/app.js";

const TITLE = 30;
const GAP = 10;
const HEIGHTS = { slot: 20, widget: 24, text: 64, edge: 12 }; // of parts of a node on the canvas
const ELEMENTS = 1.2; // nodes that are elements of the page are taller by this factor

/** The approximate height of a new node, in pixels. */
export function heightOf(definition, widgets) {
  const inputs = Object.entries({ ...definition.input?.required, ...definition.input?.optional });
  const texts = inputs.filter(([, [type, options]]) => type === "STRING" && options?.multiline);
  const slots = inputs.filter(([name]) => !widgets.includes(name)).length;
  const height =
    HEIGHTS.edge +
    HEIGHTS.slot * Math.max(slots, definition.output.length) +
    HEIGHTS.widget * (widgets.length - texts.length) +
    HEIGHTS.text * texts.length;
  const isElement = app.extensionManager?.setting?.get?.("Comfy.VueNodes.Enabled");
  return isElement ? height * ELEMENTS : height;
}

const areAboveEachOther = (a, b) =>
  a.pos[0] < b.pos[0] + b.size[0] && b.pos[0] < a.pos[0] + a.size[0];

/**
 * Moves saved nodes down if they were below other nodes and would now be covered by them.
 *
 * @param nodes the nodes of one graph; their positions are changed in place.
 * @param newHeight gives the height that a node needs today, or undefined if it has not changed.
 */
export function moveApart(nodes, newHeight) {
  const placed = nodes.filter((node) => node.pos && node.size && !node.flags?.collapsed);
  placed.sort((a, b) => a.pos[1] - b.pos[1]);
  const above = []; // those that have grown or moved: [node, its lower end in the file, and today]
  for (const node of placed) {
    const [top, height] = [node.pos[1], node.size[1]];
    const covering = above.filter(
      ([other, before, now]) =>
        areAboveEachOther(other, node) && before <= top - TITLE && now > top - TITLE,
    );
    if (covering.length) node.pos[1] = Math.max(...covering.map(([, , now]) => now)) + TITLE + GAP;
    const today = Math.max(height, newHeight(node) ?? 0);
    if (covering.length || today > height) above.push([node, top + height, node.pos[1] + today]);
  }
}
