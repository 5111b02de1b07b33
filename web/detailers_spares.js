// Nodes that take any number of inputs always have one more input than are connected.

import { app } from "../../scripts/app.js";

const STEMS = {
  ImpactMakeImageList: "image",
  ImpactMakeImageBatch: "image",
  ImpactMakeMaskList: "mask",
  ImpactMakeMaskBatch: "mask",
  ImpactMakeAnyList: "value",
  ImpactCombineConditionings: "conditioning",
  ImpactConcatConditionings: "conditioning",
  ImpactSEGSConcat: "segs",
  CombineRegionalPrompts: "regional_prompts",
  ImpactSwitch: "input",
  LatentSwitch: "input",
  SEGSSwitch: "input",
};
const INPUT = 1;

const numberOf = (input, stem) =>
  input.name.startsWith(stem) ? Number(input.name.slice(stem.length)) : NaN;

/** Adds or removes inputs at the end until only the last one is free. */
function fit(node, stem) {
  const numbered = () => (node.inputs ?? []).filter((input) => numberOf(input, stem) >= 1);
  const isUsed = (input) => node.isInputConnected(node.inputs.indexOf(input));
  let last = numbered().at(-1);
  if (!last) return;
  if (isUsed(last)) {
    node.addInput(`${stem}${numberOf(last, stem) + 1}`, last.type);
    return;
  }
  for (let spare = numbered().at(-2); spare && !isUsed(spare); spare = numbered().at(-2)) {
    node.removeInput(node.inputs.indexOf(last));
    last = spare;
  }
}

app.registerExtension({
  name: "Detailers.Spares",

  beforeRegisterNodeDef(nodeType, nodeData) {
    const stem = STEMS[nodeData.name.replace(/ \/\/Detailers$/, "")];
    if (!stem) return;
    const changed = nodeType.prototype.onConnectionsChange;
    nodeType.prototype.onConnectionsChange = function (side, ...rest) {
      const result = changed?.call(this, side, ...rest);
      if (side === INPUT && !app.configuringGraph) fit(this, stem);
      return result;
    };
    nodeType.prototype.fitInputs = function () {
      fit(this, stem);
    };
  },

  loadedGraphNode(node) {
    node.fitInputs?.();
  },
});
