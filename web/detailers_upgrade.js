// Brings nodes of older versions to today's form while a file is opened. What today's nodes would
// save stays untouched. legacy.json says how nodes were saved; core/legacy.py explains it.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { heightOf, makeRoom } from "./detailers_room.js";

const here = new URL(".", import.meta.url);
const pack = decodeURIComponent(here.pathname.split("/").at(-2));
const table = await (await fetch(new URL("legacy.json", here))).json();
for (const rule of Object.values(table.nodes)) {
  for (const [key, value] of Object.entries(table.nodes[rule.like] ?? {})) rule[key] ??= value;
}

const CONTROLS = ["fixed", "increment", "decrement", "randomize", true, false]; // of a seed
const WIDGETS = ["INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"];
const definitions = new Map(); // of this pack's nodes, by id

// Links are objects in subgraphs, and lists elsewhere; those of group nodes have no number.
const LINKS = {
  object: { origin: "origin_id", originSlot: "origin_slot", target: "target_id", slot: "target_slot" },
  list: { origin: 1, originSlot: 2, target: 3, slot: 4 },
  group: { origin: 0, originSlot: 1, target: 2, slot: 3 },
};

/** A graph, or the inside of a subgraph or of a group node. */
class Level {
  constructor(graph, isGroup) {
    this.graph = graph;
    this.isGroup = isGroup;
  }

  get nodes() {
    return this.graph.nodes ?? [];
  }

  at(link) {
    return LINKS[this.isGroup ? "group" : Array.isArray(link) ? "list" : "object"];
  }

  linksFrom(node) {
    return (this.graph.links ?? []).filter((link) => link?.[this.at(link).origin] === this.id(node));
  }

  linksTo(node) {
    return (this.graph.links ?? []).filter((link) => link?.[this.at(link).target] === this.id(node));
  }

  id(node) {
    return this.isGroup ? node.index : node.id;
  }

  removeLink(link) {
    this.graph.links.splice(this.graph.links.indexOf(link), 1);
    const number = Array.isArray(link) ? link[0] : link.id;
    if (this.isGroup) return;
    for (const slot of this.nodes.flatMap((node) => node.inputs ?? [])) {
      if (slot.link === number) slot.link = null;
    }
    for (const slot of this.nodes.flatMap((node) => node.outputs ?? [])) {
      if (slot.links?.includes(number)) slot.links = slot.links.filter((id) => id !== number);
    }
    for (const slot of [...(this.graph.inputs ?? []), ...(this.graph.outputs ?? [])]) {
      if (slot.linkIds) slot.linkIds = slot.linkIds.filter((id) => id !== number);
    }
  }
}

function* levelsOf(graph) {
  yield new Level(graph, false);
  for (const group of Object.values(graph.extra?.groupNodes ?? {})) yield new Level(group, true);
  for (const subgraph of graph.definitions?.subgraphs ?? []) yield* levelsOf(subgraph);
}

/** What took the place of an id that is no more, unless another pack has it. */
const successorOf = (id) => (LiteGraph.registered_node_types[id] ? undefined : table.ids[id]);

const inputOf = (definition, name) =>
  definition.input?.required?.[name] ?? definition.input?.optional?.[name] ?? [];

const choicesOf = ([, options]) => options?.options ?? [];

function defaultOf(definition, name) {
  if (name === "control_after_generate") return "fixed";
  const input = inputOf(definition, name);
  return input[1]?.default ?? (input[0] === "STRING" ? "" : choicesOf(input)[0]);
}

function widgetNames(definition) {
  const inputs = { ...definition.input?.required, ...definition.input?.optional };
  return Object.entries(inputs).flatMap(([name, [type, options]]) => {
    if (!WIDGETS.includes(type) || options?.forceInput) return [];
    return ["seed", "noise_seed"].includes(name) ? [name, "control_after_generate"] : [name];
  });
}

/** What is known of a node's versions, with all widgets that it has today. */
function ruleOf(id, definition) {
  const rule = table.nodes[id] ?? { widgets: [], shortest: 0, added: {} };
  const newer = widgetNames(definition).filter((name) => !rule.widgets.includes(name));
  return { ...rule, widgets: [...rule.widgets, ...newer] };
}

function isOfKind(value, input) {
  if (["INT", "FLOAT"].includes(input[0])) return typeof value === "number";
  if (input[0] === "BOOLEAN") return typeof value === "boolean";
  if (input[0] === "STRING") return typeof value === "string";
  return choicesOf(input).includes(value);
}

/** Whether a value may be that of a widget; a choice may have entries that are not here. */
function suits(name, value, definition) {
  if (name === "control_after_generate") return CONTROLS.includes(value);
  const input = inputOf(definition, name);
  const { min = -Infinity, max = Infinity } = input[1] ?? {};
  if (typeof value === "number" && (value < min || value > max)) return false;
  return isOfKind(value, input) || (input[0] === "COMBO" && typeof value === "string");
}

/** Whether values are where names say, going by the seed and what follows it. */
function fits(names, values) {
  const seed = names.indexOf("seed");
  if (seed < 0 || seed + 1 >= values.length) return true;
  return typeof values[seed] === "number" && CONTROLS.includes(values[seed + 1]);
}

/** A file of the old form in which masks were saved, as the mask editor names files today. */
function fileName({ filename, subfolder, type }) {
  return filename ? `${subfolder ? `${subfolder}/` : ""}${filename} [${type || "input"}]` : "";
}

/** What a saved value of a widget means today. */
function meaning(name, value, rule) {
  if (name === "image" && value && typeof value === "object") return fileName(value);
  const words = rule.words?.[name] ?? table.words[name];
  return words?.[value] ?? value;
}

/**
 * The names that the values of a saved list belong to.
 *
 * @returns [names, isIntact]: where the list is not intact, only values that suit their name count.
 */
function namesOf(saved, rule, definition) {
  const layouts = rule.without ?? {};
  const without = (left) => rule.widgets.filter((name) => !left?.includes(name));
  const usual = without(layouts[saved.length]);
  const orders = [usual, rule.widgets, ...Object.values(layouts).map(without)];
  // Tools that write files by themselves leave out what only the editor needs.
  const plain = orders.map((names) => names.filter((name) => name !== "control_after_generate"));
  const allSuit = (names) =>
    saved.length <= names.length &&
    saved.every((value, place) =>
      suits(names[place], meaning(names[place], value, rule), definition),
    );
  const sound = [...orders, ...plain].find(allSuit);
  if (sound || fits(usual, saved)) return [(sound ?? usual).slice(0, saved.length), true];
  // Some version took an older list for one of its own, and lost values that did not suit it.
  const damaged = orders.find((names) => fits(names, saved)) ?? usual;
  return [damaged.slice(0, saved.length), false];
}

/** Today's list of widget values for a saved one; the same list if nothing is to be changed. */
function widgetValues(saved, rule, definition) {
  const [names, isIntact] = namesOf(saved, rule, definition);
  const values = rule.widgets.map((name) => {
    const place = names.indexOf(name);
    const absent = rule.added[name] ?? defaultOf(definition, name);
    if (place < 0) return absent;
    const value = meaning(name, saved[place], rule);
    const isSound = isIntact || name === "control_after_generate";
    return isSound || isOfKind(value, inputOf(definition, name)) ? value : absent;
  });
  const isMeant = values.every((value, place) =>
    place < saved.length ? value === saved[place] : value === defaultOf(definition, rule.widgets[place]),
  );
  return isMeant ? saved : [...values, ...saved.slice(names.length)];
}

/** For each saved output the number of today's that is the same: by name, by type, by place. */
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

/** Puts outputs in today's order, with the links of those that still are; says if it had to. */
function moveOutputs(node, level, definition) {
  const saved = node.outputs ?? [];
  const today = definition.output.map((type, slot) => ({ name: definition.output_name[slot], type }));
  const matches = matchOutputs(saved, today);
  if (saved.every((_, slot) => matches.get(slot) === slot)) return false;
  for (const link of level.linksFrom(node)) {
    const key = level.at(link).originSlot;
    if (matches.has(link[key])) link[key] = matches.get(link[key]);
    else level.removeLink(link);
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

/** Today's name of an input that has one of another time. */
function renamedInput(name, { renamed = {}, numbered = {} }) {
  const [, stem, number] = /^(.*?)(\d+)(?:_opt)?$/.exec(name) ?? [];
  return renamed[name] ?? (stem in numbered ? numbered[stem] + number : undefined);
}

/** Renames inputs, removes those that are no more or double; says whether there were any. */
function changeInputs(node, level, rule, definition) {
  const unused = rule.unused ?? [];
  let changed = false;
  for (const input of [...(node.inputs ?? [])]) {
    const name = renamedInput(input.name, rule);
    const slot = node.inputs.indexOf(input);
    const isTwin = (other) => other !== input && other.name === input.name;
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

/** What the rules of a saved node make of its widget values; the same list if nothing. */
function upgradedValues(node, saved) {
  const id = successorOf(node.type)?.id ?? node.type;
  const definition = definitions.get(id);
  const rule = definition && ruleOf(id, definition);
  const isKnown = rule && Array.isArray(saved) && saved.length >= rule.shortest;
  return isKnown ? widgetValues(saved, rule, definition) : saved;
}

/** A group node has the widget values of all nodes inside in one list, so each needs all of its. */
function upgradeGroupNode(node, group) {
  const saved = node.widgets_values ?? [];
  const parts = [];
  let start = 0;
  for (const inner of group.nodes) {
    parts.push(saved.slice(start, (start += inner.widgets_values?.length ?? 0)));
  }
  if (saved.length !== start) return null;
  const upgraded = group.nodes.flatMap((inner, number) => {
    const values = upgradedValues(inner, parts[number]);
    const definition = definitions.get(successorOf(inner.type)?.id ?? inner.type);
    if (!definition || number === parts.length - 1) return values;
    const rest = widgetNames(definition).slice(values.length);
    return [...values, ...rest.map((name) => defaultOf(definition, name))];
  });
  if (JSON.stringify(upgraded) === JSON.stringify(saved)) return null;
  node.widgets_values = upgraded;
  delete node.widgets_values_named; // the names are those of the old lists
  return node.title ?? node.type;
}

/** Newer editors save values by name too, and may go by the names: these mean today's widgets. */
function nameValues(node, names) {
  if (!node.widgets_values_named) return;
  const values = names.map((name, place) => [name, node.widgets_values[place]]);
  node.widgets_values_named = Object.fromEntries(values.filter(([, value]) => value !== undefined));
}

/** Brings a node to today's form; says what was changed, if anything was. */
function upgradeNode(node, level) {
  const group = /^workflow[>/](.*)/s.exec(node.type)?.[1];
  const inside = level.graph.extra?.groupNodes?.[group];
  if (inside) return upgradeGroupNode(node, inside);
  const old = node.type;
  const successor = successorOf(old);
  const id = successor?.id ?? old;
  const definition = definitions.get(id);
  if (!definition) return null;
  const rule = ruleOf(id, definition);
  let changed = false;
  if (successor) {
    node.type = id;
    if (node.properties?.["Node name for S&R"]) node.properties["Node name for S&R"] = id;
    changeInputs(node, level, successor, definition);
    changed = true;
  }
  const saved = node.widgets_values ?? [];
  const values = upgradedValues(node, saved);
  if (values !== saved) {
    node.widgets_values = values;
    nameValues(node, rule.widgets);
  }
  changed = changeInputs(node, level, rule, definition) || values !== saved || changed;
  if (!definition.output.includes("*")) changed = moveOutputs(node, level, definition) || changed;
  const title = definition.display_name;
  return changed ? (successor ? `${old} → ${title}` : title) : null;
}

/** The height that a node of this pack needs today. */
function newHeight({ type }) {
  const definition = definitions.get(type);
  return definition && heightOf(definition, widgetNames(definition));
}

/**
 * Brings a workflow to today's form.
 *
 * @returns [workflow, changes]: a changed copy and a line for each node that was changed; the
 * workflow itself and no line if there is nothing to change.
 */
export function upgradeWorkflow(workflow) {
  if (!Array.isArray(workflow?.nodes)) return [workflow, []];
  const copy = JSON.parse(JSON.stringify(workflow));
  const changes = [...levelsOf(copy)].flatMap((level) =>
    level.nodes.map((node) => upgradeNode(node, level)).filter(Boolean),
  );
  return changes.length ? [copy, changes] : [workflow, []];
}

/** The same for an API-format prompt, by way of the server. */
async function upgradePrompt(prompt) {
  const known = (node) => node?.class_type in table.ids || node?.class_type in table.nodes;
  if (!Object.values(prompt ?? {}).some(known)) return [prompt, []];
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
  for (const { class_type: id, inputs } of Object.values(upgraded)) {
    const rule = table.nodes[id];
    if (rule?.widgets.includes("image")) inputs.image = meaning("image", inputs.image, rule);
  }
  const title = (id) => definitions.get(upgraded[id].class_type)?.display_name;
  return [upgraded, changed.map(title)];
}

function tell(changes) {
  if (!changes.length) return;
  const counts = new Map();
  for (const change of changes) counts.set(change, (counts.get(change) ?? 0) + 1);
  const lines = [...counts].map(([change, count]) => (count > 1 ? `${change} (${count})` : change));
  console.info(`Detailers upgraded nodes of older versions: ${lines.join(", ")}`);
  const more = lines.length > 6 ? [`… and ${lines.length - 5} more`] : [];
  app.extensionManager?.toast?.add({
    severity: "info",
    summary: "Detailers: nodes of older versions upgraded",
    detail: [...lines.slice(0, more.length ? 5 : 6), ...more].join("\n"),
    life: 8000,
  });
}

app.registerExtension({
  name: "Detailers.Upgrade",

  init() {
    // Before anything else reads the file: group nodes and subgraphs are registered early.
    const { loadGraphData, loadApiJson } = app;
    app.loadGraphData = async function (workflow, ...rest) {
      const [upgraded, changes] = upgradeWorkflow(workflow);
      if (changes.length) {
        for (const level of levelsOf(upgraded)) {
          if (!level.isGroup) makeRoom(level.nodes, newHeight);
        }
      }
      const result = await loadGraphData.call(this, upgraded, ...rest);
      tell(changes);
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
          // In this form of a choice group nodes, too, know that it is no socket.
          if (Array.isArray(type)) group[name] = ["COMBO", { ...options, options: type }];
        }
      }
    }
  },
});
