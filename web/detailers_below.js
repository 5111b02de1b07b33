// Shows elements below the widgets of a node. They are not saved in the workflow file.

const MARGIN = 8; // around an element; all sizes here are in pixels of the graph
const GAP = 4; // between widgets, as the editor has it

const shownIn = new WeakMap(); // node -> {before: its height, parts: Map of name to part}
const prepared = new WeakSet(); // nodes that are saved without these elements

/** The element that a node shows under a name. */
export const shownBelow = (node, name) => shownIn.get(node)?.parts.get(name)?.element;

/**
 * Shows an element below a node's widgets. It replaces an earlier element of the same name.
 *
 * @param height function that takes a width and returns the height of the element, in pixels.
 * Without it, the height is measured once for each width.
 */
export function showBelow(node, name, element, height) {
  if (typeof node.addDOMWidget !== "function") return;
  removeBelow(node, name);
  prepare(node);
  const own = shownIn.get(node) ?? { before: node.size[1], parts: new Map() };
  shownIn.set(node, own);
  const part = { element, heights: new Map(), measure: height };
  const high = () => heightIn(part, node.size[0]);
  const hooks = hooksOf(node);
  part.widget = node.addDOMWidget(name, name, element, {
    serialize: false,
    hideOnZoom: false,
    margin: MARGIN,
    getValue: () => "",
    setValue() {},
    getMinHeight: high,
    getMaxHeight: high,
  });
  part.widget.serialize = false;
  part.hooks = { before: hooks, after: hooksOf(node) };
  own.parts.set(name, part);
  fitBelow(node);
}

/** Adapts the height of a node after the height of an element has changed. */
export function fitBelow(node) {
  const own = shownIn.get(node);
  if (!own) return;
  for (const part of own.parts.values()) {
    const [was, now] = [part.height ?? 0, heightIn(part, node.size[0])];
    part.height = now;
    // Nodes that are elements of the page grow by themselves.
    if (LiteGraph.vueNodesMode || was === now) continue;
    const height = was ? node.size[1] + now - was : node.size[1];
    setHeight(node, Math.max(height, node.computeSize()[1]));
  }
  node.setDirtyCanvas?.(true, true);
}

/** Removes the element of a name from a node. */
export function removeBelow(node, name) {
  const own = shownIn.get(node);
  const part = own?.parts.get(name);
  if (!part) return;
  const height = Math.max(own.before, heightWithout(node, own, [part]));
  own.parts.delete(name);
  if (!own.parts.size) shownIn.delete(node);
  if (node.removeWidget) {
    if (node.widgets?.includes(part.widget)) node.removeWidget(part.widget);
  } else {
    node.widgets = node.widgets?.filter((widget) => widget !== part.widget);
    part.widget.onRemove?.();
  }
  part.element.remove();
  for (const [hook, after] of Object.entries(part.hooks.after)) {
    if (node[hook] === after) node[hook] = part.hooks.before[hook];
  }
  const least = LiteGraph.vueNodesMode ? 0 : node.computeSize()[1];
  setHeight(node, Math.max(height, least));
  node.setDirtyCanvas?.(true, true);
}

/** The height that an element has at a width, in pixels. */
export function heightOf(element, width) {
  const copy = element.cloneNode(true);
  Object.assign(copy.style, {
    position: "absolute", visibility: "hidden", left: "0", top: "0", height: "auto",
    width: `${width}px`, transform: "none",
  }); // prettier-ignore
  document.body.append(copy);
  const height = copy.offsetHeight;
  copy.remove();
  return height;
}

/** Lets the wheel scroll an element that is higher than it is shown, instead of zooming the graph. */
export function scrollByWheel(element) {
  element.addEventListener("wheel", (event) => {
    if (element.scrollHeight > element.clientHeight && !event.ctrlKey) event.stopPropagation();
  });
}

/** The callbacks of a node that the editor replaces for a widget, to restore them afterwards. */
const hooksOf = ({ onAdded, onRemoved, onResize }) => ({ onAdded, onRemoved, onResize });

function setHeight(node, height) {
  if (node.size[1] !== height) node.setSize([node.size[0], height]);
}

/** The height of a node without some of its elements. */
function heightWithout(node, own, parts) {
  const now = node.size[1];
  if (now < own.before) return now;
  const most = parts.reduce((sum, part) => sum + heightIn(part, node.size[0]) + GAP, 0);
  return Math.max(own.before, now - most);
}

/** Lets a node be saved as if it had no elements below. */
function prepare(node) {
  if (prepared.has(node)) return;
  prepared.add(node);
  const original = node.onSerialize;
  node.onSerialize = function (saved) {
    const own = shownIn.get(this);
    if (own) {
      const values = saved.widgets_values;
      const places = [...own.parts.values()].map(({ widget }) => this.widgets.indexOf(widget));
      for (const index of places.sort((one, other) => other - one)) {
        if (Array.isArray(values) && index < values.length && !(index in values)) {
          values.splice(index, 1); // the value belongs to a widget that was added later
        }
      }
      saved.size = [saved.size[0], heightWithout(this, own, [...own.parts.values()])];
    }
    return original?.apply(this, arguments);
  };
}

/** The height of a part with its margins, in a node of a given width. */
function heightIn({ element, heights, measure }, width) {
  if (measure) return measure(width - 2 * MARGIN) + 2 * MARGIN;
  if (!heights.has(width)) heights.set(width, heightOf(element, width - 2 * MARGIN) + 2 * MARGIN);
  return heights.get(width);
}
