// Choose Variants shows each segment's variants; a click on one chooses it.

import { app } from "../../scripts/app.js";
import {
  fitBelow,
  heightOf,
  removeBelow,
  scrollByWheel,
  showBelow,
  shownBelow,
} from "./detailers_below.js";
import { counted, onValue, plainType, setValue, valueAt } from "./detailers_graph.js";
import { keepOutputs, urlOf } from "./detailers_outputs.js";
import { said } from "./detailers_words.js";

const UI = "detailers_variants"; // in a node's output, and the name of the widget
const CHOICES = "choices"; // the widget that holds what is chosen by hand
const ORIGINAL = "original";
const MOST_HEIGHT = 420; // pixels of the graph; a higher grid scrolls
const CELL = 76;
const FRAME = { hand: "#3dc770", score: "#8fb8de", none: "transparent" };
const STYLE = {
  grid: {
    boxSizing: "border-box", overflowX: "hidden", overflowY: "auto",
    color: "var(--input-text, #ddd)", font: "11px/15px Inter, Arial, sans-serif",
    maxHeight: `${MOST_HEIGHT}px`,
  },
  head: { margin: "4px 2px 2px", overflowWrap: "anywhere" },
  row: { display: "flex", flexWrap: "wrap", gap: "4px" },
  cell: {
    width: `${CELL}px`, padding: "0 0 2px", borderRadius: "5px", cursor: "pointer",
    background: "var(--comfy-input-bg, #222)", color: "inherit", font: "inherit",
    textAlign: "center", boxSizing: "border-box",
  },
  picture: { width: "100%", aspectRatio: "1", objectFit: "contain", display: "block" },
  foot: { margin: "5px 2px 2px", opacity: "0.75" },
}; // prettier-ignore

const grids = new WeakMap(); // by node: {element, entries, heights}

/** A number that a place in the text has, or the original; the text goes by segment and image. */
const keyOf = ({ segment, image }) => (image === null ? `${segment}` : `${segment}@${image}`);

const ENTRY = /^\s*(\d+)\s*(?:@\s*(\d+)\s*)?[:：]\s*(\d+|original)\s*$/i;

/** The choices of a text as Map of "0" or "0@1" to a number or "original"; null for no such text. */
export function readChoices(text) {
  const choices = new Map();
  const joined = String(text ?? "").replace(/\s*([:：@])\s*/g, "$1");
  for (const entry of joined.split(/[\s,;，、；]+/)) {
    if (!entry) continue;
    const match = entry.match(ENTRY);
    if (!match) return null;
    const key = match[2] === undefined ? `${+match[1]}` : `${+match[1]}@${+match[2]}`;
    choices.delete(key);
    choices.set(key, /\d/.test(match[3]) ? +match[3] : ORIGINAL);
  }
  return choices;
}

const numbersOf = (key) => key.split("@").map(Number);

export function writtenChoices(choices) {
  const order = ([a], [b]) => {
    const [one, other] = [numbersOf(a), numbersOf(b)];
    return one[0] - other[0] || (one[1] ?? -1) - (other[1] ?? -1);
  };
  return [...choices].sort(order).map(([key, value]) => `${key}:${value}`).join(", ");
}

/** The key by which a segment's choice stands in a text: its own, or that for every image. */
function keyIn(choices, entry) {
  const keys = [keyOf(entry), `${entry.segment}`];
  if (entry.image === null) keys.push(`${entry.segment}@0`);
  return keys.find((key) => choices.has(key));
}

/** What is chosen by hand now for a segment: a number, "original", or undefined. */
function chosenByHand(choices, entry) {
  const value = choices && choices.get(keyIn(choices, entry));
  if (value === ORIGINAL || entry.variants.some(({ number }) => number === value)) return value;
  return undefined;
}

/** Chooses a variant, or takes the choice back if it is that one already. */
function choose(node, place, entry, value) {
  const text = valueAt(place, CHOICES);
  const choices = readChoices(text);
  if (choices === null) {
    setValue(place, CHOICES, `${text}, ${keyOf(entry)}:${value}`); // the run says what is wrong
  } else {
    const isChosen = chosenByHand(choices, entry) === value;
    for (let key; (key = keyIn(choices, entry)) !== undefined; ) {
      if (entry.image !== null && key === `${entry.segment}`) break; // it holds for other images
      choices.delete(key);
    }
    if (!isChosen) choices.set(keyOf(entry), value);
    setValue(place, CHOICES, writtenChoices(choices));
  }
  app.extensionManager?.workflow?.activeWorkflow?.changeTracker?.checkState?.();
  draw(node);
}

// The grid

function make(kind, style, text = "") {
  const element = document.createElement(kind);
  Object.assign(element.style, style);
  element.textContent = text;
  return element;
}

function cellOf(node, place, entry, { value, name, told, picture, state }) {
  const cell = make("button", STYLE.cell);
  cell.type = "button";
  cell.className = "detailers-variant";
  cell.dataset.choice = `${keyOf(entry)}:${value}`;
  cell.dataset.state = state;
  cell.style.border = `3px solid ${FRAME[state]}`;
  cell.setAttribute("aria-pressed", String(state !== "none"));
  cell.title = told;
  const shown = make("img", STYLE.picture);
  shown.alt = told;
  shown.draggable = false;
  shown.setAttribute("src", urlOf(picture));
  cell.append(shown, make("div", {}, name));
  cell.disabled = !counted(place, CHOICES);
  cell.addEventListener("pointerdown", (event) => event.stopPropagation());
  cell.addEventListener("click", (event) => {
    event.stopPropagation();
    choose(node, place, entry, value);
  });
  return cell;
}

const written = (score) => (score === null ? "" : String(Number(Number(score).toPrecision(3))));

function rowOf(node, place, entry, choices) {
  const hand = chosenByHand(choices, entry);
  const isPending = hand !== (entry.chosen_by === "hand" ? (entry.chosen ?? ORIGINAL) : undefined);
  const stateOf = (value) => {
    if (hand !== undefined) return value === hand ? "hand" : "none";
    // A choice that was taken back: the next run knows which has the best score.
    return !isPending && value === (entry.chosen ?? ORIGINAL) ? "score" : "none";
  };
  const row = make("div", STYLE.row);
  row.setAttribute("role", "group");
  row.setAttribute("aria-label", said("Variants of segment {place}", { place: keyOf(entry) }));
  row.append(
    cellOf(node, place, entry, {
      value: ORIGINAL, name: said("original"), told: said("As it was before"),
      picture: entry.original, state: stateOf(ORIGINAL),
    }),
  ); // prettier-ignore
  for (const { number, score, seed, picture } of entry.variants) {
    const parts = [said("Variant {number}", { number })];
    if (seed !== null) parts.push(said("seed {seed}", { seed }));
    if (score !== null) parts.push(said("score {score}", { score }));
    const name = score === null ? `${number}` : `${number} · ${written(score)}`;
    const told = parts.join(", ");
    row.append(
      cellOf(node, place, entry, { value: number, name, told, picture, state: stateOf(number) }),
    );
  }
  return { row, isPending };
}

/** Fills the grid of a node anew. */
function draw(node) {
  const grid = grids.get(node);
  if (!grid) return;
  const { element, entries } = grid;
  const top = element.scrollTop;
  const parts = [];
  let pending = false;
  for (const { place, data } of entries) {
    const choices = readChoices(valueAt(place, CHOICES));
    if (entries.length > 1) parts.push(make("div", STYLE.head, said("Node {path}", { path: place.path })));
    for (const entry of data.flatMap(({ segments }) => segments)) {
      parts.push(make("div", STYLE.head, `${keyOf(entry)} · ${entry.label}`));
      const { row, isPending } = rowOf(node, place, entry, choices);
      parts.push(row);
      pending ||= isPending;
    }
  }
  if (pending) parts.push(make("div", STYLE.foot, said("Run again to paste what is chosen now.")));
  element.replaceChildren(...parts);
  element.scrollTop = top;
  grid.heights.clear();
  node.setDirtyCanvas?.(true, true);
}

function add(node) {
  const element = make("div", STYLE.grid);
  element.className = "detailers-variants";
  scrollByWheel(element);
  const grid = { element, entries: [], heights: new Map() };
  grids.set(node, grid);
  return grid;
}

/** The height of a grid in some width; its pictures are squares, which need not be there yet. */
function heightIn({ element, heights }, width) {
  if (!heights.has(width)) heights.set(width, heightOf(element, width));
  return heights.get(width);
}

function show(node, entries) {
  if (!entries.length) {
    if (grids.delete(node)) removeBelow(node, UI);
    return;
  }
  const grid = grids.get(node) ?? add(node);
  grid.entries = entries;
  draw(node);
  if (shownBelow(node, UI) === grid.element) fitBelow(node);
  else showBelow(node, UI, grid.element, (width) => heightIn(grid, width));
}

keepOutputs(UI, (node) => plainType(node) === "ChooseVariants", show);

app.registerExtension({
  name: "Detailers.Variants",

  nodeCreated(node) {
    if (plainType(node) === "ChooseVariants") onValue(node, CHOICES, () => draw(node));
  },
});
