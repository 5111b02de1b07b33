// A workflow that is open but not shown: the data that the editor keeps, and its prompt.

import { api } from "../../scripts/api.js";
import { controlled, plainType } from "./detailers_graph.js";

const SUBGRAPH_INPUT = "-10";
// control widget -> the widget that it controls
const CONTROLS = { control_after_generate: null, seed_2nd_mode: "seed_2nd" };
const isLink = (value) => Array.isArray(value) && value.length === 2;

/** The subgraphs of a saved workflow, at any depth. */
function* subgraphsOf(graph) {
  for (const subgraph of graph.definitions?.subgraphs ?? []) {
    yield subgraph;
    yield* subgraphsOf(subgraph);
  }
}

/** The source [node, output] of an input, by the graph's links. */
function sourceOf(graph, node, slot) {
  const id = node.inputs?.[slot]?.link;
  if (id == null) return null;
  const link = graph.links?.find((one) => (Array.isArray(one) ? one[0] : one.id) === id);
  if (!link) return null;
  return Array.isArray(link) ? [link[1], link[2]] : [link.origin_id, link.origin_slot];
}

export class SavedGraph {
  /**
   * @param state what the editor keeps of the workflow; it is changed in place.
   * @param left what was noted when the workflow was left: the `prompt` that it makes with all
   * nodes active but for subgraph nodes, and the `names` of the saved values by type of node.
   */
  constructor(state, left) {
    this.state = state;
    this.left = left;
    this.subgraphs = new Map([...subgraphsOf(state)].map((graph) => [graph.id, graph]));
  }

  *places(graph = this.state, holders = [], graphs = []) {
    for (const node of graph.nodes ?? []) {
      yield this._place(node, holders, [...graphs, graph]);
      const inside = this.subgraphs.get(node.type);
      if (inside) yield* this.places(inside, [...holders, node], [...graphs, graph]);
    }
  }

  _place(node, holders, graphs) {
    return { node, holders, graphs, path: [...holders, node].map(({ id }) => id).join(":") };
  }

  at(path) {
    let graph = this.state;
    const [nodes, graphs] = [[], []];
    for (const id of String(path).split(":")) {
      const node = graph?.nodes?.find((one) => String(one.id) === id);
      if (!node) return null;
      nodes.push(node);
      graphs.push(graph);
      graph = this.subgraphs.get(node.type);
    }
    return this._place(nodes.at(-1), nodes.slice(0, -1), graphs);
  }

  type({ node }) {
    return plainType(node);
  }

  _names(node) {
    const named = node.widgets_values_named;
    return named ? Object.keys(named) : (this.left?.names.get(node.type) ?? []);
  }

  /** The place of a used value as {node, name}; null if it is not known before a run. */
  _counted({ node, holders, graphs }, name) {
    if (!this._names(node).includes(name)) return null;
    let found = { node, name };
    let slot = (node.inputs ?? []).findIndex((input) => input.widget?.name === name);
    for (let [at, depth] = [node, holders.length]; ; ) {
      const source = slot < 0 ? null : sourceOf(graphs[depth], at, slot);
      if (!source) return found;
      if (String(source[0]) === SUBGRAPH_INPUT) {
        if (!depth) return found;
        depth -= 1;
        const input = graphs[depth + 1].inputs?.[source[1]]?.name;
        at = holders[depth];
        slot = (at.inputs ?? []).findIndex((one) => one.name === input);
        if (this._names(at).includes(input)) found = { node: at, name: input };
        continue;
      }
      at = graphs[depth].nodes.find((one) => String(one.id) === String(source[0]));
      if (at?.type === "PrimitiveNode") return { node: at, name: this._names(at)[0] ?? "value" };
      if (at?.type !== "Reroute") return null;
      slot = 0;
    }
  }

  get(place, name) {
    const found = this._counted(place, name);
    if (!found) return undefined;
    const values = found.node.widgets_values;
    if (found.node.widgets_values_named) return found.node.widgets_values_named[found.name];
    return values?.[this._names(found.node).indexOf(found.name)];
  }

  set(place, name, value) {
    const found = this._counted(place, name);
    if (!found) return false;
    const { node, name: its } = found;
    const number = this._names(node).indexOf(its);
    if (Array.isArray(node.widgets_values) && number >= 0) node.widgets_values[number] = value;
    if (node.widgets_values_named) node.widgets_values_named[its] = value;
    this._setInPrompt(place, name, value);
    // The value of a subgraph node is passed to all nodes that are linked to it.
    if (node !== place.node) {
      for (const other of this.places()) {
        for (const { widget } of other.node.inputs ?? []) {
          const same = widget && this._counted(other, widget.name);
          if (same?.node === node && same.name === its) this._setInPrompt(other, widget.name, value);
        }
      }
    }
    return true;
  }

  offer() {} // the editor reads the entries again when it shows the workflow

  _setInPrompt({ path }, name, value) {
    const inputs = this.left?.prompt?.[path]?.inputs;
    if (inputs && name in inputs && !isLink(inputs[name])) inputs[name] = value;
  }

  /** Nodes are muted and bypassed in the prompt when it is queued. Subgraph nodes cannot be. */
  setMode({ node }, mode) {
    if (this.subgraphs.has(node.type) && node.mode !== mode && this.left) this.left.prompt = null;
    node.mode = mode;
  }

  /** The prompt of the workflow; null if the editor has to show the workflow to make one. */
  async prompt() {
    const prompt = this.left?.prompt;
    if (!prompt) return null;
    const modes = Object.fromEntries(
      [...this.places()]
        .filter(({ node }) => node.mode && !this.subgraphs.has(node.type))
        .map(({ path, node }) => [path, node.mode]),
    );
    const answer = await api.fetchApi("/detailers/modes", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ prompt, modes }),
    });
    return answer.ok ? (await answer.json()).prompt : null;
  }

  /** Changes the seeds as their controls say, after a prompt was queued. */
  advanceSeeds() {
    for (const place of this.places()) {
      const names = this._names(place.node);
      for (const [control, target] of Object.entries(CONTROLS)) {
        const number = names.indexOf(control);
        if (number < 1) continue;
        const name = target ?? names[number - 1];
        const next = controlled(this.get(place, name), this.get(place, control));
        if (next !== undefined) this.set(place, name, next);
      }
    }
  }
}
