// Finds the widgets to which the values of a saved node belong. Each version had its own order of
// widgets, and a workflow does not say which version saved it. legacy.json lists the orders;
// core/graph/legacy.py explains that file.

import { app } from "../../scripts/app.js";

const here = new URL(".", import.meta.url);
export const table = await (await fetch(new URL("legacy.json", here))).json();
for (const rule of Object.values(table.nodes)) {
  for (const [key, value] of Object.entries(table.nodes[rule.like] ?? {})) rule[key] ??= value;
}

const CONTROL = "control_after_generate"; // the editor's own widget after a seed
const CONTROLS = ["fixed", "increment", "increment-wrap", "decrement", "randomize", true, false];
const WIDGETS = ["INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"];
const LONGEST = 40; // characters of a value in a notice

// How well a value fits a widget: it has another type, it is not accepted, it is a choice that is
// not installed here, or it is right.
const [OTHER_KIND, NOT_TAKEN, NOT_HERE, RIGHT] = [0, 1, 2, 3];

export const isObject = (value) =>
  value !== null && typeof value === "object" && !Array.isArray(value);

export const inputOf = (definition, name) =>
  definition.input?.required?.[name] ?? definition.input?.optional?.[name] ?? [];

const choicesOf = ([, options]) => options?.options ?? [];

export function defaultOf(definition, name) {
  if (name === CONTROL) return "fixed";
  const input = inputOf(definition, name);
  return input[1]?.default ?? (input[0] === "STRING" ? "" : choicesOf(input)[0]);
}

export function widgetNames(definition) {
  const inputs = { ...definition.input?.required, ...definition.input?.optional };
  return Object.entries(inputs).flatMap(([name, [type, options]]) => {
    if (!WIDGETS.includes(type) || options?.forceInput) return [];
    return ["seed", "noise_seed"].includes(name) ? [name, CONTROL] : [name];
  });
}

/** Converts the old form of a mask's file to the name that the mask editor uses today. */
function fileName({ filename, subfolder, type }) {
  return filename ? `${subfolder ? `${subfolder}/` : ""}${filename} [${type || "input"}]` : "";
}

/** The boolean that a text means, or the text itself if it means none. */
function booleanOf(text, options) {
  const said = text.toLowerCase();
  if (said === options?.label_on?.toLowerCase()) return true;
  if (said === options?.label_off?.toLowerCase()) return false;
  return Object.hasOwn(table.booleans, said) ? table.booleans[said] : text;
}

/** The saved values of a node, and its widgets of today. */
export class Layouts {
  /** @param id the node's id of today; @param definition ComfyUI's definition of the node. */
  constructor(id, definition) {
    const rule = table.nodes[id] ?? { widgets: [], shortest: 0, added: {} };
    const newer = widgetNames(definition).filter((name) => !rule.widgets.includes(name));
    const inputs = { ...definition.input?.required, ...definition.input?.optional };
    const isOther = ([type]) => !WIDGETS.includes(type) && Object.hasOwn(app.widgets ?? {}, type);
    // Some editors have widgets for types that are only links in others. Such a node is not old.
    this.isOwnOfEditor = Object.values(inputs).some(isOther);
    this.rule = rule;
    this.definition = definition;
    this.widgets = [...rule.widgets, ...newer];
  }

  _input(name) {
    const input = inputOf(this.definition, this.rule.renamed?.[name] ?? name);
    return input.length ? input : (this.rule.was?.[name] ?? []);
  }

  /** The value of today that a saved value means. */
  meaning(name, value) {
    if (name === "image" && isObject(value)) return fileName(value);
    const words = this.rule.words?.[name] ?? table.words[name] ?? {};
    const isPlain = ["string", "number", "boolean"].includes(typeof value);
    if (isPlain && Object.hasOwn(words, value)) return words[value];
    const [type, options] = this._input(name);
    return type === "BOOLEAN" && typeof value === "string" ? booleanOf(value, options) : value;
  }

  /** How well a saved value fits a widget. If the widget has a link, the value does not matter. */
  _gradeOf(name, value, linked) {
    return Math.max(linked.has(name) ? NOT_HERE : OTHER_KIND, this._grade(name, this.meaning(name, value)));
  }

  _grade(name, value) {
    if (name === CONTROL) return CONTROLS.includes(value) ? RIGHT : OTHER_KIND;
    // A choice without entries, for instance without files, is saved like this.
    if (value === null && defaultOf(this.definition, name) === undefined) return RIGHT;
    const input = this._input(name);
    const [type, options] = input;
    if (type === "INT" || type === "FLOAT") {
      if (typeof value !== "number") return OTHER_KIND;
      const { min = -Infinity, max = Infinity } = options ?? {};
      const isTaken = min <= value && value <= max && (type === "FLOAT" || value % 1 === 0);
      return isTaken ? RIGHT : NOT_TAKEN;
    }
    if (type === "BOOLEAN") return typeof value === "boolean" ? RIGHT : OTHER_KIND;
    if (type === "STRING") return typeof value === "string" ? RIGHT : OTHER_KIND;
    if (type !== "COMBO") return RIGHT; // the type is unknown
    if (choicesOf(input).includes(value)) return RIGHT;
    if (typeof value !== "string") return OTHER_KIND;
    return table.open.includes(name) ? NOT_HERE : NOT_TAKEN;
  }

  /** The orders that a list may have, the most likely one first. */
  *_orders(saved, named) {
    const { without = {}, layouts = [] } = this.rule;
    const isComplete = (names) => names.length === saved.length;
    const omitting = (left) => this.widgets.filter((name) => !left?.includes(name));
    // Tools that write workflows leave out values that only the editor needs.
    const plain = (names) => names.filter((name) => name !== CONTROL);
    if (named) yield named;
    const orders = [omitting(without[saved.length]), this.widgets];
    orders.push(...Object.values(without).map(omitting));
    yield* orders;
    yield* layouts.filter(isComplete);
    yield* orders.map(plain);
    yield* layouts.map(plain).filter(isComplete);
  }

  /**
   * The order that a list follows.
   *
   * @returns {names, grades, isKnown}: grades of the values that have a name; if the order is not
   * known, names are those that suit most values.
   */
  _orderOf(saved, named, linked) {
    let best;
    for (const names of this._orders(saved, named)) {
      if (names.length < saved.length && names !== this.widgets) continue;
      const grades = names
        .slice(0, saved.length)
        .map((name, at) => this._gradeOf(name, saved[at], linked));
      const suited = grades.filter((grade) => grade >= NOT_HERE).length;
      const right = grades.filter((grade) => grade === RIGHT).length;
      const [isKnown, score] = [suited === grades.length, suited + right / 1000];
      const isBetter = !best || isKnown > best.isKnown || (isKnown === best.isKnown && score > best.score);
      if (isBetter) best = { names: names.slice(0, saved.length), grades, isKnown, score };
    }
    return best;
  }

  /**
   * The values of the widgets by their names.
   *
   * @returns {found, misfits}: misfits are values that no widget takes, as text; instead of them
   * are the defaults.
   */
  _read(names, grades, values, linked) {
    // Values of a wrong type show that other values may be in the wrong place, too.
    const least = grades.includes(OTHER_KIND) ? RIGHT : NOT_HERE;
    const [found, misfits] = [new Map(), []];
    names.forEach((name, at) => {
      if (grades[at] < least) {
        const value = (JSON.stringify(values[at]) ?? "").slice(0, LONGEST);
        if (!linked.has(name)) misfits.push(`${name}: ${value}`);
        if (inputOf(this.definition, name).length) found.set(name, defaultOf(this.definition, name));
        return;
      }
      for (const today of this.rule.became?.[name] ?? [this.rule.renamed?.[name] ?? name]) {
        found.set(today, this.meaning(name, values[at]));
      }
    });
    return { found, misfits };
  }

  /** The names that a workflow gives to its values, if the values are the same as in the list. */
  _named(saved, named) {
    if (!isObject(named)) return null;
    const [names, values] = [Object.keys(named), Object.values(named)];
    const isOfList = JSON.stringify(values) === JSON.stringify(saved);
    return isOfList && names.some((name) => this._input(name).length) ? names : null;
  }

  /**
   * Today's values for those of a saved node.
   *
   * @param saved a list of values, or an object of values by name.
   * @param named values by name that a file has beside the list.
   * @param linked names of the widgets whose value comes over a link.
   * @returns {values, misfits}: values are `saved` itself if nothing is to be changed.
   */
  today(saved, named, linked = new Set()) {
    if (this.isOwnOfEditor) return { values: saved, misfits: [] };
    if (isObject(saved)) return this._ofObject(saved, linked);
    if (!Array.isArray(saved) || !saved.length) return this._ofNone(saved);
    const order = this._orderOf(saved, this._named(saved, named), linked);
    const { names, grades, isKnown } = order;
    const isShort = saved.length < this.rule.shortest;
    if (isShort && isKnown && names.every((name, at) => name === this.widgets[at])) {
      return { values: saved, misfits: [] };
    }
    const { found, misfits } = this._read(names, grades, saved, linked);
    const values = this._list(found, isShort ? {} : this.rule.added);
    return { values: this._ifOther(values, saved, names), misfits };
  }

  _list(found, added) {
    const absent = (name) => added[name] ?? defaultOf(this.definition, name);
    return this.widgets.map((name) => (found.has(name) ? found.get(name) : absent(name)));
  }

  _ifOther(values, saved, names) {
    const isMeant = values.every((value, at) =>
      at < saved.length
        ? value === saved[at]
        : value === defaultOf(this.definition, this.widgets[at]),
    );
    return isMeant ? saved : [...values, ...saved.slice(names.length)];
  }

  _ofNone(saved) {
    const isList = Array.isArray(saved) || saved == null;
    if (!isList || this.rule.shortest > 0) return { values: saved, misfits: [] };
    const values = this._list(new Map(), this.rule.added);
    const isMeant = values.every(
      (value, at) => value === defaultOf(this.definition, this.widgets[at]),
    );
    return { values: isMeant ? saved : values, misfits: [] };
  }

  _ofObject(saved, linked) {
    const keys = Object.keys(saved);
    if (!this.widgets.length) return { values: saved, misfits: [] };
    if (!keys.length) return { values: this._list(new Map(), {}), misfits: [] };
    if (keys.every((key, at) => key === String(at))) {
      return this.today(Object.values(saved), null, linked);
    }
    const names = keys.filter((name) => this._input(name).length || name === CONTROL);
    const values = names.map((name) => saved[name]);
    // The names give the places, so a value of a wrong type says nothing about the others.
    const grades = names.map((name, at) => this._gradeOf(name, values[at], linked) || NOT_TAKEN);
    const { found, misfits } = this._read(names, grades, values, linked);
    return { values: this._list(found, this.rule.added), misfits };
  }
}
