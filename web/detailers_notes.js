// Shows the notes of a node's last run in the node, until it runs again.

import { app } from "../../scripts/app.js";
import { removeBelow, scrollByWheel, showBelow, shownBelow } from "./detailers_below.js";
import { places } from "./detailers_graph.js";
import { onRuns, onShown, shownKey } from "./detailers_workflow.js";

const NOTES = "detailers_notes"; // key in a node's output, and the name of the widget
const MOST_HEIGHT = 150; // pixels of the graph; longer lists scroll
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
  const rows = [...(shownBelow(node, NOTES)?.children ?? [])].map((row) => row.textContent);
  if (rows.join("\n") === texts.join("\n")) return;
  if (texts.length) showBelow(node, NOTES, listOf(texts));
  else removeBelow(node, NOTES);
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
  scrollByWheel(element);
  return element;
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
