// Upgrades nodes of older versions when a workflow is opened. Nodes in today's form stay the same.
// legacy.json describes how nodes were saved; core/graph/legacy.py explains that file.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { Layouts, defaultOf, inputOf, isObject, table, widgetNames } from "./detailers_layouts.js";
import { heightOf, moveApart } from "./detailers_spacing.js";

const pack = decodeURIComponent(new URL(".", import.meta.url).pathname.split("/").at(-2));
const definitions = new Map(); // of this pack's nodes, by id

const listOf = (value) => (Array.isArray(value) ? value : []);
const objectsIn = (list) => listOf(list).filter(isObject);
const valuesOf = (object) => (isObject(object) ? Object.values(object).filter(isObject) : []);

// Links are objects in subgraphs, and lists elsewhere; those of group nodes have no number.
const LINKS = {
  object: { origin: "origin_id", originSlot: "origin_slot", target: "target_id", slot: "target_slot" },
  list: { origin: 1, originSlot: 2, target: 3, slot: 4 },
  group: { origin: 0, originSlot: 1, target: 2, slot: 3 },
};

/** The nodes and links of a graph, of a subgraph, or inside of a group node. */
class Level {
  constructor(graph, isGroup) {
    this.graph = graph;
    this.isGroup = isGroup;
    this.nodes = listOf(graph.nodes).filter((node) => typeof node?.type === "string");
    this._byId = new Map(this.nodes.map((node) => [this.id(node), node]));
  }

  /** The links by the id of their source node or of their target node. */
  _linksBy(end) {
    this._ends ??= {};
    if (!this._ends[end]) {
      const found = new Map();
      for (const link of listOf(this.graph.links)) {
        if (link === null || typeof link !== "object") continue;
        const id = link[this.at(link)[end]];
        if (!found.has(id)) found.set(id, []);
        found.get(id).push(link);
      }
      this._ends[end] = found;
    }
    return this._ends[end];
  }

  at(link) {
    return LINKS[this.isGroup ? "group" : Array.isArray(link) ? "list" : "object"];
  }

  linksFrom(node) {
    return [...(this._linksBy("origin").get(this.id(node)) ?? [])];
  }

  linksTo(node) {
    return [...(this._linksBy("target").get(this.id(node)) ?? [])];
  }

  id(node) {
    return this.isGroup ? node.index : node.id;
  }

  removeLink(link) {
    const at = this.at(link);
    for (const end of ["origin", "target"]) {
      const links = this._linksBy(end).get(link[at[end]]) ?? [];
      if (links.includes(link)) links.splice(links.indexOf(link), 1);
    }
    this.graph.links.splice(this.graph.links.indexOf(link), 1);
    if (this.isGroup) return;
    const number = Array.isArray(link) ? link[0] : link.id;
    for (const slot of objectsIn(this._byId.get(link[at.target])?.inputs)) {
      if (slot.link === number) slot.link = null;
    }
    for (const slot of objectsIn(this._byId.get(link[at.origin])?.outputs)) {
      if (slot.links?.includes?.(number)) slot.links = slot.links.filter((id) => id !== number);
    }
    for (const slot of [...objectsIn(this.graph.inputs), ...objectsIn(this.graph.outputs)]) {
      if (slot.linkIds?.includes?.(number)) slot.linkIds = slot.linkIds.filter((id) => id !== number);
    }
  }

  /** Links an output to a new input of a node. */
  addInput(node, name, [source, slot]) {
    const type = source.outputs[slot].type;
    const ends = { origin: this.id(source), originSlot: slot, target: this.id(node) };
    const input = { name, type, link: null };
    node.inputs.push(input);
    const link = this._newLink({ ...ends, slot: node.inputs.length - 1 }, type);
    this.graph.links.push(link);
    for (const end of ["origin", "target"]) {
      const found = this._linksBy(end);
      if (!found.has(ends[end])) found.set(ends[end], []);
      if (!found.get(ends[end]).includes(link)) found.get(ends[end]).push(link);
    }
    if (this.isGroup) return;
    input.link = Array.isArray(link) ? link[0] : link.id;
    source.outputs[slot].links = [...listOf(source.outputs[slot].links), input.link];
  }

  /** A link in the form that this graph uses. */
  _newLink(ends, type) {
    const { graph } = this;
    const like = graph.links.find((link) => link !== null && typeof link === "object");
    if (this.isGroup) return [ends.origin, ends.originSlot, ends.target, ends.slot, null, type];
    const numbers = graph.links.map((link) => (Array.isArray(link) ? link[0] : link?.id));
    const last = [graph.last_link_id, graph.state?.lastLinkId, ...numbers].filter(Number.isInteger);
    const id = last.reduce((most, number) => Math.max(most, number), 0) + 1;
    if (graph.last_link_id !== undefined) graph.last_link_id = id;
    if (isObject(graph.state)) graph.state.lastLinkId = id;
    if (Array.isArray(like)) return [id, ends.origin, ends.originSlot, ends.target, ends.slot, type];
    const places = Object.entries(ends).map(([end, value]) => [LINKS.object[end], value]);
    return { id, ...Object.fromEntries(places), type };
  }

  /** The node and output to which an input is linked; null if it has no link. */
  sourceOf(node, name) {
    const slot = node.inputs.findIndex((input) => input?.name === name);
    const link = this.linksTo(node).find((one) => slot >= 0 && one[this.at(one).slot] === slot);
    const source = link && this._byId.get(link[this.at(link).origin]);
    return source ? [source, link[this.at(link).originSlot]] : null;
  }

  /** The nearest CLIP output before a node's model; null if there is none. */
  clipBehind(node) {
    const isModel = ({ name, type }) => type === "MODEL" || type === "*" || name === "model";
    const passed = new Set();
    for (let at = node; at && !passed.has(at); ) {
      passed.add(at);
      const model = at === node ? "model" : objectsIn(at.inputs).find(isModel)?.name;
      at = Array.isArray(at.inputs) ? this.sourceOf(at, model)?.[0] : null;
      const slot = listOf(at?.outputs).findIndex((output) => output?.type === "CLIP");
      if (slot >= 0) return [at, slot];
    }
    return null;
  }
}

function* levelsOf(graph) {
  yield new Level(graph, false);
  for (const group of valuesOf(graph.extra?.groupNodes)) yield new Level(group, true);
  for (const subgraph of objectsIn(graph.definitions?.subgraphs)) yield* levelsOf(subgraph);
}

/** The successor of an old id, unless another pack has a node with that id. */
const successorOf = (id) =>
  Object.hasOwn(table.ids, id) && !LiteGraph.registered_node_types[id] ? table.ids[id] : undefined;

const isSlot = (slot) => isObject(slot) && typeof slot.name === "string";

/** For each saved output, the number of the same output today: by name, by type, by place. */
function matchOutputs(saved, today) {
  const matches = new Map();
  const isFree = (slot) => ![...matches.values()].includes(slot);
  const alike = [
    (a, b) => a.type === b.type && a.name === b.name,
    (a, b) => a.type === b.type && a.name.toLowerCase() === b.name.toLowerCase(),
    (a, b) => a.type === b.type,
    (a, b) => saved.indexOf(a) === today.indexOf(b),
  ];
  for (const isAlike of alike) {
    saved.forEach((output, slot) => {
      if (matches.has(slot)) return;
      const match = today.findIndex((other, number) => isFree(number) && isAlike(output, other));
      if (match >= 0) matches.set(slot, match);
    });
  }
  return matches;
}

/** Brings outputs and their links into today's order. Tells whether it has changed. */
function moveOutputs(node, level, definition) {
  const saved = listOf(node.outputs);
  if (!saved.every(isSlot)) return false;
  const today = definition.output.map((type, slot) => ({ name: definition.output_name[slot], type }));
  const matches = matchOutputs(saved, today);
  if (saved.every((_, slot) => matches.get(slot) === slot)) return false;
  for (const link of level.linksFrom(node)) {
    const key = level.at(link).originSlot;
    if (matches.has(link[key])) link[key] = matches.get(link[key]);
    else level.removeLink(link);
  }
  for (const end of level.isGroup ? listOf(level.graph.external) : []) {
    if (end?.[0] === node.index && matches.has(end[1])) end[1] = matches.get(end[1]);
  }
  const places = new Map([...matches].map(([slot, place]) => [place, saved[slot]]));
  node.outputs = today.map((output, slot) => ({
    links: null,
    ...places.get(slot),
    ...output,
    slot_index: slot,
  }));
  return true;
}

/** Today's name of an input with an older name. */
function renamedInput(name, { renamed = {}, numbered = {} }) {
  const [, stem, number] = String(name).match(/^(.*?)(\d+)(?:_opt)?$/) ?? [];
  if (Object.hasOwn(renamed, name)) return renamed[name];
  return Object.hasOwn(numbered, stem) ? numbered[stem] + number : undefined;
}

/** Today's name of an input with an unknown name, if its type shows which input it is. */
function nameByType(node, { name, type }, { by_type: types = {} }, definition) {
  if (inputOf(definition, name).length) return undefined;
  const isFree = ([wanted]) => !node.inputs.some((input) => input?.name === wanted);
  const isOfType = ([, kind]) => (table.kinds[type] ?? type) === kind;
  return Object.entries(types).find((one) => isFree(one) && isOfType(one))?.[0];
}

/** Changes the links inside of a group node, which use numbers, to the inputs of today's node. */
function moveInputs(node, level, definition) {
  if (!level.isGroup || !Array.isArray(node.inputs)) return false;
  const inputs = { ...definition.input?.required, ...definition.input?.optional };
  const widgets = widgetNames(definition);
  const slots = Object.keys(inputs).filter((name) => !widgets.includes(name));
  const order = [...slots, ...Object.keys(inputs).filter((name) => widgets.includes(name))];
  let changed = false;
  for (const link of level.linksTo(node)) {
    const key = level.at(link).slot;
    const slot = order.indexOf(node.inputs[link[key]]?.name);
    if (slot < 0 || slot === link[key]) continue;
    link[key] = slot;
    changed = true;
  }
  if (changed) {
    const saved = new Map(objectsIn(node.inputs).map((input) => [input.name, input]));
    const others = objectsIn(node.inputs).filter(({ name }) => !slots.includes(name));
    const fresh = (name) => ({ name, type: inputs[name][0], link: null });
    node.inputs = [...slots.map((name) => saved.get(name) ?? fresh(name)), ...others];
  }
  return changed;
}

/** Links a node of a version without a CLIP input to the CLIP that belongs to its model. */
function takeClip(node, level, rule, definition) {
  const isKnown = Array.isArray(node.inputs) && rule.clip_until && inputOf(definition, "clip").length;
  if (!isKnown || node.inputs.some((input) => input?.name === "clip")) return false;
  const source = level.clipBehind(node);
  if (source) level.addInput(node, "clip", source);
  return source !== null;
}

/** Gives the inputs that replaced one input the link of that input. */
function shareLinks(node, level, { became = {} }) {
  let changed = false;
  for (const [old, [first, ...others]] of Object.entries(became)) {
    const input = objectsIn(node.inputs).find(({ name }) => name === old);
    if (!input) continue;
    const source = level.sourceOf(node, old);
    const rename = (slot, name) =>
      Object.assign(slot, { name }, isObject(slot.widget) ? { widget: { ...slot.widget, name } } : {});
    rename(input, first);
    for (const name of source ? others : []) {
      level.addInput(node, name, source);
      if (input.widget) rename(Object.assign(node.inputs.at(-1), { widget: {} }), name);
    }
    changed = true;
  }
  return changed;
}

/** Renames inputs, and removes old and duplicate ones. Tells whether there were any. */
function changeInputs(node, level, rule, definition) {
  const unused = rule.unused ?? [];
  let changed = false;
  for (const input of objectsIn(node.inputs)) {
    const name = renamedInput(input.name, rule) ?? nameByType(node, input, rule, definition);
    const slot = node.inputs.indexOf(input);
    const isTwin = (other) => other !== input && other?.name === input.name;
    if (name) {
      input.name = name;
      input.type = inputOf(definition, name)[0] ?? input.type;
    } else if (unused.includes(input.name) || (input.link == null && node.inputs.some(isTwin))) {
      for (const link of level.linksTo(node)) {
        const key = level.at(link).slot;
        if (link[key] === slot) level.removeLink(link);
        else if (link[key] > slot) link[key] -= 1;
      }
      node.inputs.splice(slot, 1);
    } else continue;
    changed = true;
  }
  return changed;
}

/** Names of the widgets of a saved node that have a link. */
function linkedWidgets(node) {
  const linked = objectsIn(node.inputs).filter(({ link }) => link != null);
  return new Set(linked.map(({ name, widget }) => widget?.name ?? name));
}

/** Today's definition and layouts of a node; null for nodes of other packs. */
function layoutsOf({ type }) {
  const id = successorOf(type)?.id ?? type;
  const definition = definitions.get(id);
  return definition ? new Layouts(id, definition) : null;
}

/** The changes of a workflow, for the user. */
class Report {
  changes = [];
  misfits = [];

  tellMisfits(node, title, misfits) {
    if (!misfits.length) return;
    const name = typeof node.title === "string" && node.title ? node.title : title;
    this.misfits.push(`${name} (node ${node.id ?? node.index}): ${misfits.join(", ")}`);
  }
}

/** A group node has the values of all inner nodes in one list, so each must have all values. */
function upgradeGroupNode(node, group, report) {
  const saved = listOf(node.widgets_values);
  const inside = objectsIn(group.nodes);
  const parts = [];
  let start = 0;
  for (const inner of inside) {
    parts.push(saved.slice(start, (start += listOf(inner.widgets_values).length)));
  }
  if (saved.length !== start) return;
  const upgraded = inside.flatMap((inner, number) => {
    const layouts = layoutsOf(inner);
    if (!layouts) return parts[number];
    const { values, misfits } = layouts.today(parts[number], null, linkedWidgets(inner));
    report.tellMisfits(node, `${node.type}: ${layouts.definition.display_name}`, misfits);
    if (number === parts.length - 1) return values;
    const rest = widgetNames(layouts.definition).slice(values.length);
    return [...values, ...rest.map((name) => defaultOf(layouts.definition, name))];
  });
  if (JSON.stringify(upgraded) === JSON.stringify(saved)) return;
  node.widgets_values = upgraded;
  delete node.widgets_values_named; // its names are those of the old list
  report.changes.push(node.title ?? node.type);
}

/** Newer editors also save values by name, and may use the names. These are names of today. */
function nameValues(node, names) {
  if (!node.widgets_values_named) return;
  const values = names.map((name, place) => [name, node.widgets_values[place]]);
  node.widgets_values_named = Object.fromEntries(values.filter(([, value]) => value !== undefined));
}

/** Upgrades a node to today's form. */
function upgradeNode(node, level, report) {
  const group = String(node.type).match(/^workflow[>/](.*)/s)?.[1];
  const groups = level.graph.extra?.groupNodes;
  if (isObject(groups) && Object.hasOwn(groups, group) && isObject(groups[group])) {
    return upgradeGroupNode(node, groups[group], report);
  }
  const [old, successor, layouts] = [node.type, successorOf(node.type), layoutsOf(node)];
  if (!layouts) return;
  const { rule, definition } = layouts;
  let changed = false;
  if (successor) {
    node.type = successor.id;
    if (node.properties?.["Node name for S&R"]) node.properties["Node name for S&R"] = node.type;
    changeInputs(node, level, successor, definition);
    changed = true;
  }
  const { widgets_values: saved, widgets_values_named: named } = node;
  const { values, misfits } = layouts.today(saved, named, linkedWidgets(node));
  if (values !== saved) {
    node.widgets_values = values;
    nameValues(node, layouts.widgets);
    changed = true;
  }
  changed = shareLinks(node, level, rule) || changed;
  changed = changeInputs(node, level, rule, definition) || changed;
  changed = takeClip(node, level, rule, definition) || changed;
  changed = moveInputs(node, level, definition) || changed;
  if (!definition.output.includes("*")) changed = moveOutputs(node, level, definition) || changed;
  const title = definition.display_name;
  if (changed) report.changes.push(successor ? `${old} → ${title}` : title);
  report.tellMisfits(node, title, misfits);
}

/** The height that a node of this pack needs today. */
function newHeight({ type }) {
  const definition = definitions.get(type);
  return definition && heightOf(definition, widgetNames(definition));
}

function moveApartIn(workflow) {
  const isPlaced = ({ pos, size }) =>
    [pos?.[0], pos?.[1], size?.[0], size?.[1]].every(Number.isFinite);
  for (const level of levelsOf(workflow)) {
    if (!level.isGroup) moveApart(level.nodes.filter(isPlaced), newHeight);
  }
}

/**
 * Upgrades a workflow to today's form.
 *
 * @returns [workflow, changes, misfits]: a changed copy, a line for each changed node, and a line
 * for each node with values that fit no version of it. If there is nothing to change, or the
 * workflow cannot be read, it is the same workflow without lines.
 */
export function upgradeWorkflow(workflow) {
  if (!Array.isArray(workflow?.nodes)) return [workflow, [], []];
  const report = new Report();
  try {
    const copy = JSON.parse(JSON.stringify(workflow));
    for (const level of levelsOf(copy)) {
      for (const node of level.nodes) upgradeNode(node, level, report);
    }
    return report.changes.length
      ? [copy, report.changes, report.misfits]
      : [workflow, [], report.misfits];
  } catch (error) {
    console.warn("Detailers cannot upgrade a workflow; it opens as it is:", error);
    return [workflow, [], []];
  }
}

/** The same for a prompt in the API format. The server does the work. */
async function upgradePrompt(prompt) {
  const known = ({ class_type: id }) => Object.hasOwn(table.ids, id) || definitions.has(id);
  if (!isObject(prompt) || !valuesOf(prompt).some(known)) return [prompt, []];
  const answer = await api.fetchApi("/detailers/upgrade", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(prompt),
  });
  if (!answer.ok) {
    console.warn(`Detailers cannot upgrade a prompt: ${answer.status} ${answer.statusText}`);
    return [prompt, []];
  }
  const { prompt: upgraded, changed } = await answer.json();
  for (const { class_type: id, inputs } of valuesOf(upgraded)) {
    const definition = definitions.get(id);
    if (definition && isObject(inputs?.image)) {
      inputs.image = new Layouts(id, definition).meaning("image", inputs.image);
    }
  }
  const title = (id) => definitions.get(upgraded[id].class_type)?.display_name;
  return [upgraded, changed.map(title)];
}

const MOST_LINES = 6; // of a notice

function show(severity, summary, lines, life) {
  if (!lines.length) return;
  const counts = new Map();
  for (const line of lines) counts.set(line, (counts.get(line) ?? 0) + 1);
  const shown = [...counts].map(([line, count]) => (count > 1 ? `${line} (${count})` : line));
  console[severity](`${summary}: ${shown.join("; ")}`);
  const isLong = shown.length > MOST_LINES;
  const more = isLong ? [`… and ${shown.length - MOST_LINES + 1} more`] : [];
  const detail = [...shown.slice(0, isLong ? MOST_LINES - 1 : MOST_LINES), ...more].join("\n");
  app.extensionManager?.toast?.add({ severity, summary, detail, life });
}

function tell(changes, misfits = []) {
  show("info", "Detailers: nodes of older versions upgraded", changes, 8000);
  const kept = "Detailers: values that fit no version of their node, which keeps its defaults there";
  show("warn", kept, misfits, 30000);
}

app.registerExtension({
  name: "Detailers.Upgrade",

  init() {
    // This has to be done before anything else reads the workflow, since the editor registers group
    // nodes and subgraphs early.
    const { loadGraphData, loadApiJson } = app;
    app.loadGraphData = async function (workflow, ...rest) {
      const [upgraded, changes, misfits] = upgradeWorkflow(workflow);
      if (changes.length) moveApartIn(upgraded);
      const result = await loadGraphData.call(this, upgraded, ...rest);
      tell(changes, misfits);
      return result;
    };
    app.loadApiJson = async function (prompt, ...rest) {
      const [upgraded, changes] = await upgradePrompt(prompt);
      const result = await loadApiJson.call(this, upgraded, ...rest);
      tell(changes);
      return result;
    };
  },

  addCustomNodeDefs(nodes) {
    for (const node of Object.values(nodes)) {
      if (node.python_module !== `custom_nodes.${pack}`) continue;
      definitions.set(node.name, node);
      for (const group of [node.input?.required, node.input?.optional]) {
        for (const [name, [type, options]] of Object.entries(group ?? {})) {
          // With this form of a choice, group nodes also recognise that it is no link.
          if (Array.isArray(type)) group[name] = ["COMBO", { ...options, options: type }];
        }
      }
    }
  },
});
