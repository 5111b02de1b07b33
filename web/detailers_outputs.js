// What nodes have shown in their last runs, kept for each workflow, and found again in the server's
// history once a page is opened anew.

import { api } from "../../scripts/api.js";
import { places, root } from "./detailers_graph.js";
import { onRuns, onShown, shownKey } from "./detailers_workflow.js";

const RUNS = 32; // of the history that are looked at

/**
 * Keeps what nodes put into their UI output under a name.
 *
 * @param name of the entry in the output.
 * @param isOne says whether a node may have such an output.
 * @param show takes a node and what its last runs gave: [{place, data}], one for each place of a
 * node inside of subgraphs; it is called for every such node whenever something has changed.
 */
export function keepOutputs(name, isOne, show) {
  const kept = new WeakMap(); // by the key of a workflow: Map of path to data
  const known = (key) => kept.get(key) ?? kept.set(key, new Map()).get(key);

  function showAll() {
    const found = new Map();
    const own = known(shownKey());
    for (const place of places()) {
      if (!isOne(place.node)) continue;
      if (!found.has(place.node)) found.set(place.node, []);
      if (own.has(place.path)) found.get(place.node).push({ place, data: own.get(place.path) });
    }
    for (const [node, entries] of found) show(node, entries);
  }

  onRuns(["executed"], (_, { key, detail }) => {
    const data = detail?.output?.[name];
    if (!data) return;
    known(key).set(String(detail.display_node ?? detail.node), data);
    if (key === shownKey()) showAll();
  });

  onShown(async () => {
    showAll();
    const key = shownKey();
    const own = known(key);
    const missing = [...places()].filter(({ node, path }) => isOne(node) && !own.has(path));
    if (!missing.length || !root()?.id) return;
    for (const { outputs } of await lastRuns(root().id)) {
      for (const [path, output] of Object.entries(outputs ?? {})) {
        if (output?.[name] && !own.has(path)) own.set(path, output[name]);
      }
    }
    if (key === shownKey()) showAll();
  });
}

/** The address of a picture that is named as in a node's output. */
export const urlOf = ({ filename, subfolder, type }) =>
  api.apiURL(`/view?${new URLSearchParams({ filename, subfolder: subfolder ?? "", type })}`);

/** The runs of a workflow in the server's history, the latest first: {prompt, outputs}. */
export async function lastRuns(workflow) {
  try {
    const answer = await api.fetchApi(`/history?max_items=${RUNS}`);
    const runs = Object.values(await answer.json());
    return runs
      .filter(({ prompt }) => prompt?.[3]?.extra_pnginfo?.workflow?.id === workflow)
      .sort((a, b) => b.prompt[0] - a.prompt[0]);
  } catch (error) {
    console.warn("Detailers: the server's history cannot be read", error);
    return [];
  }
}
