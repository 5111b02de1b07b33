// Stands in for a script of ComfyUI-Impact-Pack, which scripts of other packs import by this name.

import { api } from "../../scripts/api.js";

let wildcards = [];

async function load() {
  const response = await api.fetchApi("/impact/wildcards/list");
  if (response.ok) wildcards = (await response.json()).data;
}

load().catch((error) => console.warn("Detailers: the wildcard lists are not known.", error));

/** The wildcard lists, as they are written in a text. */
export function get_wildcards_list() {
  return wildcards;
}
