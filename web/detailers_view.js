// Shows the run of a detailer in the node. While it runs: the crops that are being sampled and the
// time that is left. Afterwards: each crop before and after, and the whole picture with a slider.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { fitBelow, removeBelow, showBelow, shownBelow } from "./detailers_below.js";
import { places, plainType, root } from "./detailers_graph.js";
import { lastRuns, urlOf } from "./detailers_outputs.js";
import { said } from "./detailers_words.js";
import { isKnown, onQueue, onRuns, onShown, shownKey } from "./detailers_workflow.js";

const VIEW = "detailers_view"; // key in a node's output and in its _meta, and name of the widget
const SETTING = "Detailers.View";
const [HEAD, STRIP, THUMB] = [26, 122, 68]; // heights of the parts, and side of a picture, in pixels
const MOST_COMPARED = 420; // the greatest height of pictures with a slider, in pixels
const MOST_LIVE = 6; // the most crops of a wave that are shown while they are sampled

const STYLE = `
.detailers-view { box-sizing: border-box; overflow: hidden; border-radius: 6px;
  background: color-mix(in srgb, var(--input-text, #ddd) 6%, transparent);
  color: var(--input-text, #ddd); font: 11px/14px Inter, Arial, sans-serif; text-align: left;
  display: flex; flex-direction: column; user-select: none; }
.detailers-view-head { flex: none; height: ${HEAD - 2}px; display: flex; align-items: center; gap: 6px;
  padding: 0 6px 0 8px; white-space: nowrap; }
.detailers-view-head > span { flex: 1; overflow: hidden; text-overflow: ellipsis; }
.detailers-view button { all: unset; cursor: pointer; padding: 1px 7px; border-radius: 4px;
  font: inherit; opacity: 0.7; }
.detailers-view button:hover, .detailers-view button:focus-visible { opacity: 1;
  background: color-mix(in srgb, var(--input-text, #ddd) 12%, transparent); }
.detailers-view button[aria-pressed="true"] { opacity: 1;
  background: color-mix(in srgb, var(--input-text, #ddd) 18%, transparent); }
.detailers-view-bar { flex: none; height: 2px; }
.detailers-view-bar > div { height: 100%; width: 0; background: #4a90d9; }
.detailers-view-strip { display: flex; gap: 8px; height: ${STRIP}px; box-sizing: border-box;
  padding: 6px 8px 4px; overflow: auto hidden; scrollbar-width: thin; }
.detailers-view-pair { flex: none; cursor: pointer; border-radius: 4px; }
.detailers-view-pair:hover .detailers-view-thumbs, .detailers-view-pair:focus-visible .detailers-view-thumbs {
  outline: 1px solid #4a90d9; }
.detailers-view-thumbs { display: flex; gap: 1px; border-radius: 4px; overflow: hidden;
  background: color-mix(in srgb, var(--input-text, #ddd) 10%, transparent); }
.detailers-view-thumbs img, .detailers-view-none { display: block; width: ${THUMB}px; height: ${THUMB}px;
  object-fit: contain; font-size: 10px; }
.detailers-view-none { display: flex; align-items: center; justify-content: center; opacity: 0.6; }
.detailers-view-strip figcaption { max-width: ${2 * THUMB + 1}px; overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; margin-top: 2px; }
.detailers-view-strip figcaption + figcaption { margin-top: 0;
  color: color-mix(in srgb, var(--input-text, #ddd) 70%, transparent); }
.detailers-view-fault { color: color-mix(in srgb, #d9534f 75%, var(--input-text, #ddd)); }
.detailers-view-again { color: color-mix(in srgb, #c9973f 65%, var(--input-text, #ddd)); }
.detailers-view-compare { position: relative; overflow: hidden; touch-action: none;
  min-height: ${STRIP}px; max-height: ${MOST_COMPARED}px; }
.detailers-view-compare img { position: absolute; inset: 0; width: 100%; height: 100%;
  object-fit: contain; pointer-events: none; }
.detailers-view-compare > div { position: absolute; top: 0; bottom: 0; width: 2px; margin-left: -1px;
  background: #fff; box-shadow: 0 0 3px #000; pointer-events: none; }
.detailers-view-compare input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0;
  opacity: 0; cursor: ew-resize; }
.detailers-view-compare > b { position: absolute; top: 6px; padding: 0 6px; border-radius: 4px;
  font-weight: normal; color: #fff; background: rgba(0, 0, 0, 0.55); pointer-events: none; }
`;

// key of a workflow -> path of a node -> {run, contents: {node: [...]}, live}
const kept = new WeakMap();
const chosen = new WeakMap(); // node -> what its slider shows, {image} or {pair}; absent: no slider
const drawn = new WeakMap(); // node -> {live, contents} that it shows, as JSON
const lookedBack = new WeakSet(); // keys of workflows for which the history was searched

let isOn = true; // the setting. The editor tells its value at the start and after each change.

function viewsOf(key) {
  if (!kept.has(key)) kept.set(key, new Map());
  return kept.get(key);
}

function viewAt(views, path, run) {
  if (!views.has(path)) views.set(path, { run, contents: new Map(), live: null });
  return views.get(path);
}

// What runs tell ------------------------------------------------------------------------------

function begin(views, { output }) {
  for (const [path, view] of views) {
    view.live = null;
    if (output && !(path in output)) views.delete(path);
  }
}

function getOn(views, { run, detail }) {
  viewAt(views, String(detail.node).split(".")[0], run).live = detail;
}

function end(views, { run, detail: { node, display_node: shownAt, output } }) {
  const path = String(shownAt ?? node);
  const list = output?.[VIEW];
  if (!Array.isArray(list) || !list.length) {
    if (views.get(path)?.run !== run || !views.get(path).contents.size) views.delete(path);
    return;
  }
  const view = viewAt(views, path, run);
  if (view.run !== run) view.contents.clear();
  Object.assign(view, { run, live: null });
  view.contents.set(String(node), list);
}

/** Handles the end of a run that was queued before a reload. No message tells its workflow. */
function overUnknown() {
  const views = viewsOf(shownKey());
  if (![...views.values()].some(({ live }) => live)) return;
  over(views);
  lookedBack.delete(shownKey());
  lookBack();
}

function over(views) {
  for (const [path, view] of views) {
    view.live = null;
    if (!view.contents.size) views.delete(path);
  }
}

// What is known already -----------------------------------------------------------------------

/** Finds the results of earlier runs: first in the editor, then in the history. */
async function lookBack() {
  const [key, id] = [shownKey(), root()?.id];
  if (!isOn || lookedBack.has(key)) return;
  lookedBack.add(key);
  const views = viewsOf(key);
  const all = [...places()];
  if (!all.some(({ node }) => isDetailer(node))) return;
  takeOutputs(views, all);
  if (!views.size && id) takeHistory(views, await lastRuns(id), all);
  takeOutputs(views, all); // the editor sets these late if a run was loaded from the history
  if (key === shownKey()) showAll();
}

const isDetailer = (node) => plainType(node) && node.outputs?.some(({ name }) => name === "report");

function takeOutputs(views, all) {
  for (const [name, output] of Object.entries(app.nodeOutputs ?? {})) {
    const list = output?.[VIEW];
    if (!Array.isArray(list) || !list.length) continue;
    for (const { node, path } of all) {
      const names = [path, node.graph?.id ? `${node.graph.id}:${node.id}` : path];
      if (!names.includes(name)) continue;
      const view = viewAt(views, path, null);
      if (view.run === null) view.contents = new Map([["", list]]);
    }
  }
}

/** The newest results of the nodes of a workflow. */
function takeHistory(views, runs, all) {
  for (const { prompt, outputs } of runs) {
    for (const { node, path } of all) {
      const list = outputs?.[path]?.[VIEW];
      const isSame = prompt[2]?.[path]?.class_type === (node.comfyClass ?? node.type);
      if (views.has(path) || !isSame || !Array.isArray(list) || !list.length) continue;
      viewAt(views, path, null).contents.set(path, list);
    }
  }
}

// What is shown -------------------------------------------------------------------------------

/** Shows the progress or the result in every node of the visible graph. */
function showAll() {
  const views = isOn ? viewsOf(shownKey()) : new Map();
  const found = new Map(); // a node in a subgraph can be at several places
  for (const { node, path } of places()) {
    const view = views.get(path);
    if (!found.has(node)) found.set(node, { live: null, contents: [] });
    if (!view) continue;
    found.get(node).live ??= view.live;
    found.get(node).contents.push(...[...view.contents.values()].flat());
  }
  for (const [node, own] of found) show(node, own);
}

function show(node, { live, contents }) {
  if (!live && !contents.length) {
    if (shownBelow(node, VIEW)) removeBelow(node, VIEW);
    drawn.delete(node);
    chosen.delete(node);
    return;
  }
  const now = { live: JSON.stringify(live), contents: JSON.stringify(contents) };
  const before = drawn.get(node);
  if (before?.live === now.live && before.contents === now.contents) return;
  drawn.set(node, now);
  // A new result has other pairs.
  if (before?.contents !== now.contents && chosen.get(node)?.pair !== undefined) chosen.delete(node);
  let element = shownBelow(node, VIEW);
  if (!element) {
    element = made("div", "detailers-view");
    element.setAttribute("role", "group");
    element.setAttribute("aria-label", said("Segments of this node's last run"));
    fill(node, element, { live, contents });
    showBelow(node, VIEW, element, (width) => HEAD + bodyHeight(node, width));
    return;
  }
  fill(node, element, { live, contents });
  fitBelow(node);
}

/** The height of the part below the head. */
function bodyHeight(node, width) {
  const aspect = chosen.get(node)?.aspect;
  return aspect ? Math.round(Math.min(MOST_COMPARED, Math.max(STRIP, width * aspect))) : STRIP;
}

function made(tag, name, text) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text !== undefined) element.textContent = text; // never as HTML
  return element;
}

function pictureOf(entry, label) {
  if (!entry) return made("div", "detailers-view-none", label);
  const picture = made("img");
  picture.alt = label;
  picture.draggable = false;
  picture.setAttribute("src", urlOf(entry));
  return picture;
}

function fill(node, element, { live, contents }) {
  const isSame = live && element.dataset.pictures === JSON.stringify(live.pictures);
  if (isSame) {
    element.querySelector("span").textContent = onTheWay(live);
    element.querySelector(".detailers-view-bar > div").style.width = percent(live.done);
    return;
  }
  if (live) element.dataset.pictures = JSON.stringify(live.pictures);
  else delete element.dataset.pictures;
  const head = made("div", "detailers-view-head");
  const bar = made("div", "detailers-view-bar");
  let body;
  if (live) {
    head.append(made("span", "", onTheWay(live)));
    const done = made("div");
    done.style.width = percent(live.done);
    bar.append(done);
    body = crops(live);
  } else {
    const summary = made("span", "", inAll(contents));
    summary.title = summary.textContent;
    head.append(summary, ...choices(node, element, contents));
    body = compared(node, contents) ?? strip(node, element, contents);
  }
  element.replaceChildren(head, bar, body);
}

const percent = (share) => `${Math.round(100 * (share ?? 0))}%`;
const segments = (count) => (count === 1 ? said("1 segment") : said("{count} segments", { count }));
const retries = (count) => (count === 1 ? said("1 retry") : said("{count} retries", { count }));
const faults = (count) => (count === 1 ? said("1 fault") : said("{count} faults", { count }));

function time(duration) {
  if (duration < 60) return said("{seconds} s", { seconds: duration.toFixed(duration < 10 ? 1 : 0) });
  const [minutes, seconds] = [Math.floor(duration / 60), Math.floor(duration % 60)];
  return said("{minutes} min {seconds} s", { minutes, seconds });
}

function onTheWay({ first, last, of, left }) {
  const place = first === last ? `${first}` : `${first}–${last}`;
  const now = said("{place} of {count}", { place, count: of });
  if (left === null || left === undefined) return now;
  return `${now} · ${said("about {time} left", { time: time(left) })}`;
}

function inAll(contents) {
  const pairs = contents.flatMap((content) => content.pairs);
  const [more, seconds] = ["more", "seconds"].map((name) =>
    contents.reduce((sum, content) => sum + (content[name] ?? 0), 0),
  );
  const again = pairs.reduce((sum, pair) => sum + pair.retries, 0);
  const bad = pairs.filter((pair) => pair.fault).length;
  const parts = [segments(pairs.length + more), time(seconds)];
  if (again) parts.push(retries(again));
  if (bad) parts.push(faults(bad));
  return parts.join(" · ");
}

/** The crops that are being sampled. */
function crops({ pictures }) {
  const row = made("div", "detailers-view-strip");
  for (const entry of (pictures ?? []).slice(0, MOST_LIVE)) {
    const thumbs = made("div", "detailers-view-thumbs");
    const picture = pictureOf(entry, said("The crop that is sampled"));
    picture.style.width = picture.style.height = `${STRIP - 10}px`;
    thumbs.append(picture);
    row.append(thumbs);
  }
  return row;
}

/** Each crop before and after. */
function strip(node, element, contents) {
  const row = made("div", "detailers-view-strip");
  const isBatch = contents.some(({ pairs }) => pairs.some(({ image }) => image > 0));
  const pairs = contents.flatMap((content) => content.pairs);
  pairs.forEach((pair, index) => row.append(pairOf(node, element, contents, pair, index, isBatch)));
  const more = contents.reduce((sum, content) => sum + (content.more ?? 0), 0);
  if (more) row.append(made("div", "detailers-view-none", said("and {more} more", { more })));
  row.addEventListener("wheel", (event) => {
    if (row.scrollWidth <= row.clientWidth || event.ctrlKey) return;
    row.scrollLeft += event.deltaX || event.deltaY;
    event.stopPropagation();
    event.preventDefault();
  });
  return row;
}

function pairOf(node, element, contents, pair, index, isBatch) {
  const figure = made("figure", "detailers-view-pair");
  figure.style.margin = "0";
  const thumbs = made("div", "detailers-view-thumbs");
  thumbs.append(pictureOf(pair.before, said("before")), pictureOf(pair.after, said("unchanged")));
  const [width, height] = pair.size;
  const place = isBatch ? `${pair.image}/${pair.segment}` : `${pair.segment}`;
  const first = made("figcaption", "", `${place} · ${pair.label} · ${width}×${height}`);
  const second = made("figcaption", "", time(pair.seconds));
  if (pair.retries) second.append(made("span", "detailers-view-again", ` · ${retries(pair.retries)}`));
  if (pair.fault) second.append(made("span", "detailers-view-fault", ` · ${faults(1)}`));
  const its = { place, label: pair.label, crop: pair.crop.join("×"), size: `${width}×${height}` };
  const words = said("Segment {place}, {label}: a crop of {crop} pixels, sampled at {size}.", its);
  figure.title = [words, pair.fault].filter(Boolean).join(" ");
  if (pair.after) {
    figure.tabIndex = 0;
    figure.setAttribute("role", "button");
    const choose = () => choose_(node, element, contents, { pair: index }, pair.crop);
    figure.addEventListener("click", choose);
    figure.addEventListener("keydown", (event) => event.key === "Enter" && choose());
  } else figure.style.cursor = "default";
  figure.append(thumbs, first, second);
  return figure;
}

const imagesOf = (contents) => contents.flatMap((content) => content.images ?? []);

/** The buttons of the head. */
function choices(node, element, contents) {
  const [images, now] = [imagesOf(contents), chosen.get(node)];
  const button = (text, title, isPressed, act) => {
    const own = made("button", "", text);
    own.type = "button";
    own.title = title;
    own.setAttribute("aria-pressed", String(isPressed));
    own.addEventListener("click", act);
    return own;
  };
  const buttons = [
    button(said("Segments"), said("Each segment before and after"), !now, () =>
      choose_(node, element, contents, null),
    ),
  ];
  if (images.length) {
    const isImage = now?.image !== undefined;
    const next = isImage ? (now.image + 1) % images.length : 0;
    const count = images.length > 1 && isImage ? ` ${now.image + 1}/${images.length}` : "";
    const title = images.length > 1
      ? said("The whole pictures before and after, one after another")
      : said("The whole picture before and after");
    buttons.push(
      button(`${said("Picture")}${count}`, title, isImage, () =>
        choose_(node, element, contents, { image: next }),
      ),
    );
  }
  return buttons;
}

/** Shows a pair with a slider, or with null the strip. */
function choose_(node, element, contents, what, size) {
  const [width, height] = size ?? contents[0]?.image_size ?? [1, 1];
  if (what) chosen.set(node, { ...what, aspect: height / width });
  else chosen.delete(node);
  fill(node, element, { live: null, contents });
  fitBelow(node);
}

/** The chosen pair with a slider. */
function compared(node, contents) {
  const now = chosen.get(node);
  const pair = now?.pair !== undefined
    ? contents.flatMap((content) => content.pairs)[now.pair]
    : imagesOf(contents)[now?.image];
  if (!pair?.before || !pair.after) {
    chosen.delete(node);
    return null;
  }
  const box = made("div", "detailers-view-compare");
  box.style.aspectRatio = `${1 / now.aspect}`;
  const [after, before] = [pictureOf(pair.after, said("after")), pictureOf(pair.before, said("before"))];
  const line = made("div");
  const names = [made("b", "", said("before")), made("b", "", said("after"))];
  names[0].style.left = names[1].style.right = "6px";
  const slider = made("input");
  Object.assign(slider, { type: "range", min: 0, max: 100, step: 0.1, value: 50 });
  slider.setAttribute("aria-label", said("Between before and after"));
  const move = () => {
    before.style.clipPath = `inset(0 ${100 - slider.value}% 0 0)`;
    line.style.left = `${slider.value}%`;
    names[0].style.opacity = slider.value > 12 ? 1 : 0;
    names[1].style.opacity = slider.value < 88 ? 1 : 0;
  };
  slider.addEventListener("input", move);
  slider.addEventListener("pointermove", ({ offsetX }) => {
    if (!slider.offsetWidth) return;
    slider.value = (100 * offsetX) / slider.offsetWidth;
    move();
  });
  for (const name of ["pointerdown", "keydown"]) {
    slider.addEventListener(name, (event) => event.stopPropagation());
  }
  move();
  box.append(after, before, line, ...names, slider);
  return box;
}

app.registerExtension({
  name: "Detailers.View",

  settings: [
    {
      id: SETTING,
      category: ["Detailers", "Nodes", "View"],
      name: "Show segments in the detailers",
      tooltip:
        "While a detailer runs, show the crop that is sampled and the time that is left, and then each segment before and after.",
      type: "boolean",
      defaultValue: true,
      onChange: (value) => {
        isOn = value ?? true;
        if (root()) showAll();
      },
    },
  ],

  setup() {
    const style = made("style", "", STYLE);
    document.head.append(style);
    onQueue((output) => {
      const [first] = Object.values(output ?? {});
      if (first && isOn) first._meta = { ...first._meta, [VIEW]: true };
    });
    const steps = {
      execution_start: begin,
      "detailers-view": getOn,
      executed: end,
      execution_success: over,
      execution_error: over,
      execution_interrupted: over,
    };
    for (const end of Object.keys(steps).filter((name) => steps[name] === over)) {
      api.addEventListener(end, ({ detail }) => isKnown(detail?.prompt_id) || overUnknown());
    }
    onRuns(Object.keys(steps), (name, { key, ...event }) => {
      steps[name](viewsOf(key), event);
      if (key === shownKey()) showAll();
    });
    onShown(() => {
      showAll();
      lookBack();
    });
    lookBack();
  },
});
