// Shows the notes of a node's last run in the node, until it runs again.

import { app } from "../../scripts/app.js";
import { places } from "./detailers_graph.js";
import { onRuns, onShown, shownKey } from "./detailers_workflow.js";

const NOTES = "detailers_notes"; // key in a node's output, and the name of the widget
const MARGIN = 8; // around the list; all sizes here are in pixels of the graph
const GAP = 4; // between widgets, as the editor has it
const MOST_HEIGHT = 150; // longer lists scroll
const LIST = {
  boxSizing: "border-box", margin: "0", padding: "5px 8px", overflowX: "hidden", overflowY: "auto",
  maxHeight: `${MOST_HEIGHT}px`, borderLeft: "3px solid #c9973f", borderRadius: "4px",
  background: "rgba(201, 151, 63, 0.14)",
  color: "color-mix(in srgb, #c9973f 45%, var(--input-text, #ddd))", // fits light and dark palettes
  font: "11px/15px Inter, Arial, sans-serif", textAlign: "left", whiteSpace: "normal",
  overflowWrap: "anywhere", userSelect: "text", cursor: "auto",
}; // prettier-ignore

// key of a workflow -> path of a node -> {run, told: {node: [{kind, text}, ...]}}
const kept = new WeakMap();
const lists = new WeakMap(); // node -> its visible list
const prepared = new WeakSet(); // nodes that are saved without their list

/** The notes of a workflow's nodes. */
function notesOf(key) {
  if (!kept.has(key)) kept.set(key, new Map());
  return kept.get(key);
}

/** A run has begun: the notes of nodes that are not part of it are removed. */
function begin(notes, { output }) {
  if (!output) return;
  for (const path of notes.keys()) if (!(path in output)) notes.delete(path);
}

/** A node begins to run. Nodes of its expanded graph belong to it. */
function start(notes, { run, detail: path }) {
  if (path !== null && notes.get(String(path))?.run !== run) notes.delete(String(path));
}

function end(notes, { run, detail: { node, display_node: shownAt, output } }) {
  const path = String(shownAt ?? node);
  const told = notes.get(path)?.run === run ? notes.get(path).told : new Map();
  const list = output?.[NOTES];
  if (Array.isArray(list) && list.length) told.set(String(node), list);
  else told.delete(String(node));
  if (told.size) notes.set(path, { run, told });
  else notes.delete(path);
}

/** Shows the notes of every node of the graph. */
function showAll() {
  const notes = notesOf(shownKey());
  const texts = new Map(); // a node inside a subgraph may have several places
  for (const { node, path } of places()) {
    if (!texts.has(node)) texts.set(node, new Set());
    for (const list of notes.get(path)?.told.values() ?? []) {
      for (const { text } of list) texts.get(node).add(String(text));
    }
  }
  for (const [node, own] of texts) show(node, [...own]);
}

function show(node, texts) {
  const known = lists.get(node);
  if ((known?.texts ?? []).join("\n") === texts.join("\n")) return;
  if (known) remove(node, known);
  if (texts.length) add(node, texts);
  node.setDirtyCanvas?.(true, true);
}

function add(node, texts) {
  if (typeof node.addDOMWidget !== "function") return;
  prepare(node);
  const element = listOf(texts);
  const list = { texts, element, before: node.size[1], heights: new Map() };
  const height = () => heightIn(list, node.size[0]);
  const hooks = hooksOf(node);
  list.widget = node.addDOMWidget(NOTES, NOTES, element, {
    serialize: false,
    hideOnZoom: false,
    margin: MARGIN,
    getValue: () => "",
    setValue() {},
    getMinHeight: height,
    getMaxHeight: height,
  });
  list.widget.serialize = false;
  list.hooks = { before: hooks, after: hooksOf(node) };
  lists.set(node, list);
  // Nodes that are elements of the page grow by themselves.
  if (!LiteGraph.vueNodesMode) setHeight(node, Math.max(node.size[1], node.computeSize()[1]));
}

function remove(node, list) {
  const height = savedHeight(node, list);
  lists.delete(node);
  if (node.removeWidget) {
    if (node.widgets?.includes(list.widget)) node.removeWidget(list.widget);
  } else {
    node.widgets = node.widgets?.filter((widget) => widget !== list.widget);
    list.widget.onRemove?.();
  }
  list.element.remove();
  for (const [name, hook] of Object.entries(list.hooks.after)) {
    if (node[name] === hook) node[name] = list.hooks.before[name];
  }
  const least = LiteGraph.vueNodesMode ? 0 : node.computeSize()[1];
  setHeight(node, Math.max(height, least));
}

/** The callbacks of a node that the editor replaces for a widget, to restore them afterwards. */
const hooksOf = ({ onAdded, onRemoved, onResize }) => ({ onAdded, onRemoved, onResize });

function setHeight(node, height) {
  if (node.size[1] !== height) node.setSize([node.size[0], height]);
}

/** The height of a node without its list. */
function savedHeight(node, list) {
  const [now, most] = [node.size[1], heightIn(list, node.size[0]) + GAP];
  if (now < list.before) return now;
  return Math.max(list.before, now - most);
}

/** Lets a node be saved as if it had no list. */
function prepare(node) {
  if (prepared.has(node)) return;
  prepared.add(node);
  const original = node.onSerialize;
  node.onSerialize = function (saved) {
    const list = lists.get(this);
    if (list) {
      const values = saved.widgets_values;
      const index = this.widgets.indexOf(list.widget);
      if (Array.isArray(values) && index < values.length && !(index in values)) {
        values.splice(index, 1); // the value belongs to a widget that was added later
      }
      saved.size = [saved.size[0], savedHeight(this, list)];
    }
    return original?.apply(this, arguments);
  };
}

function listOf(texts) {
  const element = document.createElement("div");
  element.className = "detailers-notes";
  element.setAttribute("role", "list");
  element.setAttribute("aria-label", "Messages of this node's last run");
  Object.assign(element.style, LIST);
  for (const text of texts) {
    const row = document.createElement("div");
    row.setAttribute("role", "listitem");
    row.textContent = text; // never as HTML
    if (element.childElementCount) row.style.marginTop = "4px";
    element.append(row);
  }
  element.addEventListener("wheel", (event) => {
    if (element.scrollHeight > element.clientHeight && !event.ctrlKey) event.stopPropagation();
  });
  return element;
}

/** The height of a list in a node of a given width. */
function heightIn({ element, heights }, width) {
  if (!heights.has(width)) {
    const copy = element.cloneNode(true);
    Object.assign(copy.style, {
      position: "absolute", visibility: "hidden", left: "0", top: "0", height: "auto",
      width: `${width - 2 * MARGIN}px`, transform: "none",
    }); // prettier-ignore
    document.body.append(copy);
    heights.set(width, copy.offsetHeight + 2 * MARGIN);
    copy.remove();
  }
  return heights.get(width);
}

app.registerExtension({
  name: "Detailers.Notes",

  setup() {
    const steps = { execution_start: begin, executing: start, executed: end };
    onRuns(Object.keys(steps), (name, { key, ...event }) => {
      steps[name](notesOf(key), event);
      if (key === shownKey()) showAll();
    });
    onShown(showAll);
  },
});
