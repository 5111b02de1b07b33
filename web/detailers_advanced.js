// Hides the settings of a node that few users change until the user asks for them. This works for
// nodes on the canvas and for nodes that are elements of the page.
//
// A setting with a link stays visible. If a workflow has unusual values for these settings, all of
// them are shown when it is opened, unless its user has hidden them.

import { app } from "../../scripts/app.js";
import { isOurs } from "./detailers_graph.js";

const BUTTON = "detailers_advanced";

const showsAll = () =>
  Boolean(app.extensionManager?.setting?.get?.("Comfy.Node.AlwaysShowAdvancedWidgets"));

function isLinked(node, widget) {
  const input = node.inputs?.findIndex((slot) => slot.widget?.name === widget.name) ?? -1;
  return input >= 0 && node.isInputConnected(input);
}

const isFolded = (node, widget) =>
  Boolean(widget.advanced) && !node.showAdvanced && !showsAll() && !isLinked(node, widget);

/** The names of the inputs that a node's definition marks as advanced. */
function advancedNames({ input }) {
  const inputs = Object.entries({ ...input?.required, ...input?.optional });
  return new Set(inputs.filter(([, [, options]]) => options?.advanced).map(([name]) => name));
}

/** Makes nodes of a type only as tall as their visible settings need. */
function layOut(prototype) {
  const { getLayoutWidgets, isWidgetVisible, isWidgetRowVisible } = prototype;
  const { onConnectionsChange, toggleAdvanced } = prototype;
  const unfolded = (node, widget) =>
    widget.advanced && !node.collapsed && !widget.hidden && !isFolded(node, widget);

  prototype.getLayoutWidgets = function () {
    return getLayoutWidgets.call(this).filter((widget) => !isFolded(this, widget));
  };
  prototype.isWidgetVisible = function (widget) {
    return isWidgetVisible.call(this, widget) || unfolded(this, widget);
  };
  if (isWidgetRowVisible) {
    prototype.isWidgetRowVisible = function (widget) {
      return isWidgetRowVisible.call(this, widget) || unfolded(this, widget);
    };
  }
  prototype.onConnectionsChange = function (...args) {
    const result = onConnectionsChange?.apply(this, args);
    const height = this.computeSize()[1]; // with the row of a newly linked setting
    if (!app.configuringGraph && this.size[1] < height) this.setSize([this.size[0], height]);
    return result;
  };
  prototype.toggleAdvanced = function () {
    const before = this.computeSize()[1];
    const [width, height] = this.size;
    toggleAdvanced.call(this);
    this.setSize([Math.max(width, this.size[0]), height - before + this.computeSize()[1]]);
  };
}

/**
 * Marks a widget as one that can be hidden.
 *
 * A subgraph node that shows the widget copies its options, and would hide it too. So the copy does
 * not get the mark. Newer editors do this themselves.
 */
function mark(widget) {
  if (!("visibility" in widget)) {
    Object.defineProperty(widget.options, "advanced", { value: true, enumerable: false });
  }
  widget.advanced = true;
}

/** Adds a button to a node's title that shows and hides these settings. */
function addButton(node, count) {
  const button = node.addTitleButton?.({ name: BUTTON, text: "", fontSize: 14, xOffset: -10 });
  if (!button) return;
  Object.defineProperty(button, "text", {
    get: () => (showsAll() ? "" : `${node.showAdvanced ? "−" : "+"}${count}`),
    set: () => {},
  });
  const clicked = node.onTitleButtonClick;
  node.onTitleButtonClick = function (which, ...rest) {
    if (which.name === BUTTON) return this.toggleAdvanced();
    return clicked?.call(this, which, ...rest);
  };
}

app.registerExtension({
  name: "Detailers.Advanced",

  beforeRegisterNodeDef(nodeType, nodeData) {
    const { prototype } = nodeType;
    const names = advancedNames(nodeData);
    if (!isOurs(nodeData) || !names.size) return;
    // Older editors would leave a gap on the canvas, and hide widgets that a subgraph node shows.
    const canFold = typeof prototype.getLayoutWidgets === "function";
    if (canFold) layOut(prototype);

    const created = prototype.onNodeCreated;
    prototype.onNodeCreated = function (...args) {
      const result = created?.apply(this, args);
      const advanced = this.widgets?.filter((widget) => names.has(widget.name)) ?? [];
      this.usualSettings = new Map(advanced.map((widget) => [widget.name, widget.value]));
      if (canFold) {
        advanced.forEach(mark);
        addButton(this, advanced.length);
        this.setSize([this.size[0], this.computeSize()[1]]);
      } else {
        for (const { options } of advanced) delete options.advanced;
      }
      return result;
    };

    const configured = prototype.onConfigure;
    prototype.onConfigure = function (saved, ...rest) {
      const result = configured?.call(this, saved, ...rest);
      const isChanged = ([name, usual]) =>
        this.widgets.find((widget) => widget.name === name)?.value !== usual;
      if (saved?.showAdvanced === undefined && [...this.usualSettings].some(isChanged)) {
        this.showAdvanced = true;
      }
      return result;
    };
  },
});
