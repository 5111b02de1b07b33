// Preview Segments shows its image with the segments drawn into it, and their table. A click on a
// segment in either switches it off or on: the widget "off" has the indices.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { heightOf, scrollByWheel } from "./detailers_below.js";
import { counted, onValue, places, plainType, setValue, valueAt } from "./detailers_graph.js";
import { includesIndex, readIndices, toggledIndex, writtenIndices } from "./detailers_indices.js";
import { keepOutputs, urlOf } from "./detailers_outputs.js";
import { said } from "./detailers_words.js";

const UI = "detailers_segments"; // in a node's output, and the name of the widget
const OFF = "off"; // the widget that holds what is switched off
const SVG = "http://www.w3.org/2000/svg";
const MARGIN = 8; // around the element, in pixels of the graph, as are all here
const MOST_PICTURE = 420; // heights; a longer table scrolls
const MOST_TABLE = 196;
const LETTERS = 12; // height of the tags in the picture

const STYLE = `
.detailers-segments { box-sizing: border-box; display: flex; flex-direction: column; gap: 4px;
  color: var(--input-text, #ddd); font: 11px/15px Inter, Arial, sans-serif; text-align: left;
  user-select: none; overflow: hidden; }
.detailers-segments button { all: unset; box-sizing: border-box; cursor: pointer; font: inherit; }
.detailers-segments button:focus-visible { outline: 2px solid #4a90d9; outline-offset: -2px; }
.detailers-segments button:disabled { cursor: default; }
.detailers-segments-head { flex: none; display: flex; align-items: center; gap: 6px; height: 18px;
  white-space: nowrap; }
.detailers-segments-head > span { overflow: hidden; text-overflow: ellipsis; }
.detailers-segments-head > span:first-child { flex: 1; }
.detailers-segments-head > button { padding: 0 7px; border-radius: 4px; opacity: 0.8; }
.detailers-segments-head > button:hover { opacity: 1;
  background: color-mix(in srgb, var(--input-text, #ddd) 14%, transparent); }
.detailers-segments-head > button:disabled { opacity: 0.3; }
.detailers-segments-picture { flex: none; position: relative; align-self: center; max-width: 100%;
  max-height: ${MOST_PICTURE}px; border-radius: 4px; overflow: hidden; touch-action: none;
  background: #000; }
.detailers-segments-picture > img, .detailers-segments-picture > svg { position: absolute; inset: 0;
  width: 100%; height: 100%; display: block; }
.detailers-segments-picture.over { cursor: pointer; }
.detailers-segments-picture svg > g { --own: var(--colour); }
.detailers-segments-picture svg > g.stays { --own: #b8b8b8; }
.detailers-segments-picture path, .detailers-segments-picture rect,
.detailers-segments-picture polygon { fill: none; vector-effect: non-scaling-stroke;
  stroke: var(--own); stroke-linejoin: round; }
.detailers-segments-picture .seam { stroke: #000; stroke-opacity: 0.6; }
.detailers-segments-picture .mask { fill: var(--own); fill-opacity: 0.28; stroke-width: 1; }
.detailers-segments-picture .box { stroke-width: 2; }
.detailers-segments-picture .box.seam { stroke-width: 4; }
.detailers-segments-picture .window { stroke-width: 1; stroke-opacity: 0.85; }
.detailers-segments-picture .window.seam { stroke-width: 3; stroke-opacity: 0.4; }
.detailers-segments-picture g.stays .mask { fill-opacity: 0; }
.detailers-segments-picture g.stays :is(.box, .window):not(.seam) { stroke-dasharray: 5 4; }
.detailers-segments-picture g.hovered .mask { fill-opacity: 0.42; }
.detailers-segments-picture g.stays.hovered .mask { fill-opacity: 0.15; }
.detailers-segments-picture g.hovered .box { stroke-width: 3; }
.detailers-segments-picture g.hovered .box.seam { stroke-width: 6; }
.detailers-segments-picture .tag { fill: var(--own); stroke: #000; stroke-opacity: 0.6;
  stroke-width: 1; }
.detailers-segments-picture text { font: 600 ${LETTERS}px Inter, Arial, sans-serif;
  fill: var(--ink); dominant-baseline: central; text-anchor: middle; }
.detailers-segments-picture g.stays text { fill: #000; }
.detailers-segments-table { flex: none; max-height: ${MOST_TABLE}px; overflow: hidden auto;
  scrollbar-width: thin; display: flex; flex-direction: column; gap: 2px; }
.detailers-segments-row.detailers-segments-row { flex: none; display: grid; column-gap: 7px;
  grid-template-columns: auto minmax(0, 1fr) auto; padding: 3px 6px 3px 4px; border-radius: 4px;
  border-left: 4px solid var(--colour);
  background: color-mix(in srgb, var(--input-text, #ddd) 6%, transparent); }
.detailers-segments-row:not(:disabled):hover, .detailers-segments-row.hovered {
  background: color-mix(in srgb, var(--input-text, #ddd) 16%, transparent); }
.detailers-segments-row.stays.stays { border-left-color: color-mix(in srgb, var(--input-text, #ddd) 35%, transparent);
  border-left-style: dashed; }
.detailers-segments-row > b { font-weight: 600; min-width: 1.3em; text-align: right;
  font-variant-numeric: tabular-nums; }
.detailers-segments-row > span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.detailers-segments-row > .sizes { font-variant-numeric: tabular-nums; }
.detailers-segments-row > .more { grid-column: 2 / -1; opacity: 0.72; }
.detailers-segments-row.stays > span { opacity: 0.62; }
.detailers-segments-row.stale > .more { opacity: 0.42; font-style: italic; }
.detailers-segments-row.off > .label { text-decoration: line-through; }
.detailers-segments-note { flex: none; color: color-mix(in srgb, #c9973f 55%, var(--input-text, #ddd)); }
`;

const views = new WeakMap(); // by node: what it shows

function make(kind, className, text = "") {
  const element = document.createElement(kind);
  element.className = className;
  element.textContent = text;
  return element;
}

function draw(kind, className, attributes) {
  const element = document.createElementNS(SVG, kind);
  element.setAttribute("class", className);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** Black or white, whichever is easier to read on a colour such as #ff8000. */
function inkOn(colour) {
  const parts = [1, 3, 5].map((at) => (parseInt(colour.slice(at, at + 2), 16) / 255) ** 2.2);
  return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2] > 0.18 ? "#000" : "#fff";
}

/** What a node can show, one image of one run each: {place, table, image, picture, rows}. */
function pagesOf(entries) {
  return entries.flatMap(({ place, data }) =>
    data.flatMap((table) =>
      Array.from({ length: Math.max(1, table.image?.count ?? 1) }, (_, image) => ({
        place,
        table,
        image,
        picture: table.pictures?.[image],
        rows: (table.segments ?? []).filter((row) => row.image === image),
      })),
    ),
  );
}

/** What is switched off now, as ranges; as the run had it, where a link brings that. */
function offOf({ place, table }) {
  const text = valueAt(place, OFF);
  return readIndices(typeof text === "string" ? text : table.off);
}

/** Whether what is switched off has changed since the run, for the segments that there are. */
function isStale(page) {
  const within = (ranges) => {
    const most = page.table.count - 1;
    return JSON.stringify(ranges.filter(([a]) => a <= most).map(([a, b]) => [a, Math.min(b, most)]));
  };
  return within(offOf(page)) !== within(readIndices(page.table.off));
}

/** Switches a segment off or on. */
function toggle(view, number) {
  const page = view.pages[view.at];
  if (!page || !counted(page.place, OFF)) return;
  app.canvas?.emitBeforeChange?.();
  setValue(page.place, OFF, writtenIndices(toggledIndex(offOf(page), number)));
  app.canvas?.emitAfterChange?.();
  refresh(view);
}

// Where the pointer is

const areaOf = ([x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1);
const isIn = ([x1, y1, x2, y2], x, y) => x1 <= x && x < x2 && y1 <= y && y < y2;

/** Whether a point lies in an outline x, y, x, y, ... */
function isInside(points, x, y) {
  let inside = false;
  for (let at = 0, last = points.length - 2; at < points.length; last = at, at += 2) {
    const [x1, y1, x2, y2] = [points[at], points[at + 1], points[last], points[last + 1]];
    if (y1 > y !== y2 > y && x < ((x2 - x1) * (y - y1)) / (y2 - y1) + x1) inside = !inside;
  }
  return inside;
}

/** The smallest segment whose box or mask is at a place of the image; undefined for none. */
export function segmentAt(rows, x, y) {
  const isHit = ({ bbox, outlines }) =>
    isIn(bbox, x, y) || (outlines ?? []).some((points) => isInside(points, x, y));
  return rows.filter(isHit).sort((a, b) => areaOf(a.bbox) - areaOf(b.bbox))[0];
}

function rowUnder(view, event) {
  const page = view.pages[view.at];
  const { left, top, width, height } = view.picture.getBoundingClientRect();
  if (!width || !height) return undefined;
  const x = ((event.clientX - left) / width) * page.table.image.width;
  const y = ((event.clientY - top) / height) * page.table.image.height;
  return segmentAt(page.rows, x, y);
}

function hover(view, number) {
  if (view.hovered === number) return;
  view.hovered = number;
  view.picture?.classList.toggle("over", number !== undefined);
  let over;
  for (const { row, button, group } of view.shown) {
    const isIt = row.number === number;
    button.classList.toggle("hovered", isIt);
    group?.classList.toggle("hovered", isIt);
    if (isIt) over = group;
  }
  if (view.picture) view.groups[0]?.parentNode.append(...view.groups, ...(over ? [over] : [])); // on top
}

// What is shown

/** Builds what a page shows. */
function build(view) {
  const page = view.pages[view.at];
  view.hovered = undefined;
  view.picture = page.picture ? pictureOf(view, page) : null;
  const table = make("div", "detailers-segments-table");
  table.setAttribute("role", "group");
  table.setAttribute("aria-label", said("Segments"));
  const rows = [...page.rows].sort((a, b) => a.number - b.number);
  const groups = new Map(view.groups?.map((group) => [Number(group.dataset.number), group]));
  view.shown = rows.map((row) => {
    const button = buttonOf(view, row);
    table.append(button);
    return { row, button, group: groups.get(row.number) };
  });
  scrollByWheel(table);
  view.note = make("div", "detailers-segments-note");
  view.head = headOf(view);
  const parts = [view.head, view.picture, table, view.note].filter(Boolean);
  view.element.replaceChildren(...parts);
  view.heights.clear();
  refresh(view);
}

function headOf(view) {
  const head = make("div", "detailers-segments-head");
  view.count = make("span", "");
  head.append(view.count);
  if (view.pages.length < 2) return head;
  const turn = (by, sign, name) => {
    const button = make("button", "", sign);
    button.type = "button";
    button.title = name;
    button.setAttribute("aria-label", name);
    button.disabled = !view.pages[view.at + by];
    button.addEventListener("click", () => {
      view.at += by;
      build(view);
      fit(view);
    });
    return button;
  };
  const page = view.pages[view.at];
  const several = new Set(view.pages.map(({ place }) => place.path)).size > 1;
  const where = several ? `${page.place.path}: ` : "";
  head.append(
    turn(-1, "‹", said("Previous image")),
    make("span", "", `${where}${view.at + 1} / ${view.pages.length}`),
    turn(1, "›", said("Next image")),
  );
  return head;
}

function pictureOf(view, page) {
  const { width, height } = page.table.image;
  const element = make("div", "detailers-segments-picture");
  element.style.aspectRatio = `${width} / ${height}`;
  element.style.width = `min(100%, ${(MOST_PICTURE * width) / height}px)`;
  const image = make("img", "");
  image.alt = "";
  image.draggable = false;
  image.setAttribute("src", urlOf(page.picture));
  const svg = draw("svg", "", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none" });
  svg.setAttribute("aria-hidden", "true"); // the table has it all
  // The largest are at the bottom.
  const rows = [...page.rows].sort((a, b) => areaOf(b.bbox) - areaOf(a.bbox));
  view.groups = rows.map(groupOf);
  svg.append(...view.groups);
  element.append(image, svg);
  element.addEventListener("pointerdown", (event) => event.stopPropagation());
  element.addEventListener("pointermove", (event) => hover(view, rowUnder(view, event)?.number));
  element.addEventListener("pointerleave", () => hover(view, undefined));
  element.addEventListener("click", (event) => {
    event.stopPropagation();
    const row = rowUnder(view, event);
    if (row) toggle(view, row.number);
  });
  // Tags are as large in any picture.
  view.sizes?.disconnect();
  view.sizes = new ResizeObserver(() => sizeTags(element, width));
  view.sizes.observe(element);
  return element;
}

function groupOf(row) {
  const group = draw("g", "", {});
  group.dataset.number = row.number;
  group.style.setProperty("--colour", row.colour);
  group.style.setProperty("--ink", inkOn(row.colour));
  const rect = ([x1, y1, x2, y2], kind) =>
    draw("rect", kind, { x: x1, y: y1, width: Math.max(0, x2 - x1), height: Math.max(0, y2 - y1) });
  const windowOf = (kind) =>
    row.corners?.length
      ? draw("polygon", kind, { points: row.corners.map((corner) => corner.join()).join(" ") })
      : rect(row.crop_region, kind);
  const path = (row.outlines ?? [])
    .map((points) => `M${points.join(" ")}Z`)
    .join("");
  if (path) group.append(draw("path", "mask", { d: path }));
  group.append(windowOf("window seam"), windowOf("window"));
  group.append(rect(row.bbox, "box seam"), rect(row.bbox, "box"));
  const tag = draw("g", "place", {});
  const text = draw("text", "", { x: 0, y: 0 });
  text.textContent = String(row.number);
  const wide = LETTERS * (0.65 * text.textContent.length + 0.6);
  const high = LETTERS + 4;
  tag.append(
    draw("rect", "tag", { x: -wide / 2, y: -high / 2, width: wide, height: high, rx: 2 }),
    text,
  );
  tag.dataset.x = row.bbox[0];
  tag.dataset.y = row.bbox[1];
  tag.dataset.wide = wide;
  tag.dataset.high = high;
  group.append(tag);
  return group;
}

/** Gives the tags their size on the page, which does not go by the image's. */
function sizeTags(element, width) {
  const unit = width / (element.clientWidth || width); // pixels of the image in one of the page
  for (const tag of element.querySelectorAll("g.place")) {
    const { x, y, wide, high } = tag.dataset;
    const left = Math.max(0, Math.min(Number(x), width - wide * unit)) + (wide * unit) / 2;
    const top = Math.max(0, Number(y) - high * unit) + (high * unit) / 2;
    tag.setAttribute("transform", `translate(${left} ${top}) scale(${unit})`);
  }
}

function buttonOf(view, row) {
  const button = make("button", "detailers-segments-row");
  button.type = "button";
  button.dataset.number = row.number;
  button.style.setProperty("--colour", row.colour);
  const sizes = row.working_size ? `${row.size.join("×")} → ${row.working_size.join("×")}` : row.size.join("×");
  const label = `${row.label} ${Number(row.confidence).toFixed(2)}`;
  button.append(
    make("b", "", String(row.number)),
    make("span", "label", label),
    make("span", "sizes", sizes),
    make("span", "more"),
  );
  button.addEventListener("pointerdown", (event) => event.stopPropagation());
  button.addEventListener("click", (event) => {
    event.stopPropagation();
    toggle(view, row.number);
  });
  button.addEventListener("pointerenter", () => hover(view, row.number));
  button.addEventListener("pointerleave", () => hover(view, undefined));
  button.addEventListener("focus", () => hover(view, row.number));
  button.addEventListener("blur", () => hover(view, undefined));
  return button;
}

/** What a row tells besides label and sizes. */
function told(row, isOff) {
  if (isOff) return said("switched off");
  if (row.status === "off") return said("run again to see what it gets");
  if (row.status === "skipped") return `${said("skipped")}: ${row.reason}`;
  const parts = [said("seed {seed}", row), said("wave {wave}", row)];
  const texts = [row.text_before, row.text, row.negative && `− ${row.negative}`].filter(Boolean);
  const settings = Object.entries(row.settings ?? {}).map(([name, value]) => `${name} ${value}`);
  return [...parts, ...settings, ...texts].join(" · ");
}

/** Brings what is shown in line with what is switched off now. */
function refresh(view) {
  const page = view.pages[view.at];
  if (!page) return;
  const off = offOf(page);
  const stale = isStale(page);
  const canSet = !!counted(page.place, OFF);
  let count = 0;
  for (const { row, button, group } of view.shown) {
    const isOff = includesIndex(off, row.number);
    count += isOff;
    const stays = isOff || row.status === "skipped";
    for (const element of [button, group]) {
      element?.classList.toggle("stays", stays);
      element?.classList.toggle("off", isOff);
      element?.classList.toggle("stale", stale && !stays);
    }
    const more = told(row, isOff);
    button.lastChild.textContent = more;
    button.title = more;
    button.setAttribute("aria-pressed", String(!isOff));
    button.disabled = !canSet;
  }
  const counts = { count: view.shown.length, off: count };
  view.count.textContent = said("{count} segments, {off} switched off", counts);
  const note = stale ? said("Seeds and texts are those of the last run.") : "";
  if (view.note.textContent !== note) {
    view.note.textContent = note;
    fit(view);
  }
}

// In the node

function heightIn({ element, heights }, width) {
  if (!heights.has(width)) heights.set(width, heightOf(element, width - 2 * MARGIN) + 2 * MARGIN);
  return heights.get(width);
}

/** Makes a node as high as it has to be for what it shows. */
function fit(view) {
  const { node } = view;
  view.heights.clear();
  if (!LiteGraph.vueNodesMode && view.widget) {
    const least = node.computeSize()[1];
    if (node.size[1] < least) node.setSize([node.size[0], least]);
  }
  node.setDirtyCanvas?.(true, true);
}

function add(node) {
  if (!document.getElementById(UI)) {
    const style = make("style", "", STYLE);
    style.id = UI;
    document.head.append(style);
  }
  const element = make("div", "detailers-segments");
  const view = { node, element, pages: [], at: 0, shown: [], heights: new Map() };
  const height = () => heightIn(view, node.size[0]);
  view.widget = node.addDOMWidget(UI, UI, element, {
    serialize: false, hideOnZoom: false, margin: MARGIN, getValue: () => "", setValue() {},
    getMinHeight: height, getMaxHeight: height,
  }); // prettier-ignore
  view.widget.serialize = false;
  views.set(node, view);
  return view;
}

function show(node, entries) {
  if (typeof node.addDOMWidget !== "function") return;
  const pages = pagesOf(entries);
  if (!pages.length) return;
  const view = views.get(node) ?? add(node);
  const of = (list) => JSON.stringify(list.map(({ place, table, image }) => [place.path, table, image]));
  const isSame = of(view.pages) === of(pages);
  view.pages = pages;
  if (isSame) return refresh(view);
  view.at = Math.min(view.at, pages.length - 1);
  build(view);
  fit(view);
}

const isOne = (node) => plainType(node) === "PreviewSegments";

/** All nodes show what is switched off by now, wherever that was changed. */
function refreshAll() {
  for (const { node } of places()) if (views.has(node)) refresh(views.get(node));
}

keepOutputs(UI, isOne, show);

app.registerExtension({
  name: "Detailers.Preview",

  setup() {
    api.addEventListener("graphChanged", refreshAll);
  },

  nodeCreated(node) {
    if (isOne(node)) onValue(node, OFF, () => views.has(node) && refresh(views.get(node)));
  },
});
