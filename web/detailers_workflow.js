// Finds the workflow to which a run belongs. What its nodes request is done in that workflow
// even if it is not shown. After the workflow is closed, it is ignored.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { counted, places, root, shown } from "./detailers_graph.js";
import { SavedGraph } from "./detailers_saved.js";

const MUTED = 2;
const BYPASSED = 4;
const KEPT_RUNS = 200; // the most runs that are remembered
const LATE = 5000; // messages of a run may still arrive this many milliseconds after its end
const ENDS = ["execution_success", "execution_error", "execution_interrupted"];

// The change tracker identifies an open workflow, since a name may be used again.
const runs = new Map(); // id of a run -> {tracker, output, options, ended}
const left = new WeakMap(); // tracker -> data that was saved when the user left the workflow
const waiting = new WeakSet(); // trackers of workflows to queue when they are shown
const goingOn = new Map(); // number of a queued item -> the run that it continues
const posts = new Set(); // promises of prompts that are sent
const loads = new Set(); // and of workflows that are opened

const store = () => app.extensionManager?.workflow;
const active = () => store()?.activeWorkflow ?? null;
const opened = (tracker) =>
  tracker && store()?.openWorkflows?.find((workflow) => workflow.changeTracker === tracker);

/** Keeps a promise in a set until it has ended, with or without an error. */
function track(set, promise) {
  const ended = promise.then(
    () => set.delete(ended),
    () => set.delete(ended),
  );
  set.add(ended);
  return promise;
}

async function allIsDone() {
  while (posts.size || loads.size) await Promise.all([...posts, ...loads]);
}

/** The open workflow of a message; null if it is closed, or belongs to another page. */
function workflowOf({ prompt_id: run, workflow_id: id }) {
  const known = runs.get(run);
  if (known) return opened(known.tracker) ?? null;
  if (!id) return null;
  if (active() && root()?.id === id) return active();
  return store()?.openWorkflows?.find((workflow) => workflow.activeState?.id === id) ?? null;
}

let last = Promise.resolve();

/** Runs actions one after another, when all prompts are sent and all workflows are opened. */
function inTurn(name, act) {
  last = last
    .then(async () => {
      await allIsDone();
      await act();
    })
    .catch((error) => console.error(`Detailers: "${name}" failed`, error));
}

/** Handles every message of a kind in its workflow, one after another. */
export function onMessage(name, act) {
  api.addEventListener(`detailers-${name}`, ({ detail }) => {
    inTurn(name, () => actOn(detail ?? {}, act));
  });
}

const ONLY = {}; // the key in an editor that has only one workflow

/** Whether a run was queued from this page. */
export const isKnown = (run) => runs.has(run);

/** The key of the workflow that is shown. */
export const shownKey = () => active()?.changeTracker ?? ONLY;

/**
 * Listens to ComfyUI's messages about the runs of open workflows.
 *
 * @param names the names of ComfyUI's messages.
 * @param act takes a message's name and {key, run, output, detail}: the workflow's key, the id of
 * the run, the prompt that was sent, and the content of the message.
 */
export function onRuns(names, act) {
  let run = null; // the present run, since not every message names it
  api.addEventListener("execution_start", ({ detail }) => (run = detail?.prompt_id ?? null));
  for (const name of names) {
    api.addEventListener(name, ({ detail }) => {
      const its = detail?.prompt_id ?? run;
      inTurn(name, () => {
        const { output } = runs.get(its) ?? {};
        const whose = { prompt_id: its, workflow_id: detail?.workflow_id };
        const key = store() ? workflowOf(whose)?.changeTracker : runs.has(its) && ONLY;
        if (key) act(name, { key, run: its, output, detail });
      });
    });
  }
}

const whenShown = [];

/** Runs an action whenever another workflow is shown, or a workflow is loaded again. */
export const onShown = (act) => whenShown.push(act);

async function actOn(message, act) {
  if (!store()) return act(shown, message); // the editor has only one workflow
  const workflow = workflowOf(message);
  if (!workflow) return;
  const tracker = workflow.changeTracker;
  if (!tracker || tracker === active()?.changeTracker) return act(shown, message);
  if (!tracker.activeState) return;
  await act(new SavedGraph(tracker.activeState, left.get(tracker)), message);
  tracker.updateModified?.();
}

/** Queues the workflow of a message once more. */
export async function queueAgain(graph, message) {
  if (graph === shown) {
    app.queuePrompt(0, 1);
    return;
  }
  const tracker = workflowOf(message)?.changeTracker;
  const isBefore = app.extensionManager?.setting?.get?.("Comfy.WidgetControlMode") === "before";
  if (isBefore) graph.advanceSeeds();
  const sent = await send(graph, tracker, message, (prompt) => prompt);
  if (sent && !isBefore) graph.advanceSeeds();
}

/**
 * Continues the run of a message after modes of nodes have changed. It uses the values of that run,
 * so that its cached results are used. The seeds for the next run do not change.
 */
export async function goOn(graph, message) {
  const before = runs.get(message.prompt_id)?.output;
  if (graph !== shown) {
    await send(graph, workflowOf(message)?.changeTracker, message, (prompt) => asBefore(prompt, before));
    return;
  }
  const number = Object(0); // the editor treats it as a number, and it can be recognised here
  goingOn.set(number, { before, seeds: controlledValues() });
  app.queuePrompt(number, 1);
}

async function send(graph, tracker, message, change) {
  const output = tracker && (await graph.prompt());
  if (!output) {
    if (tracker) waiting.add(tracker);
    return false;
  }
  const data = { output: change(output), workflow: JSON.parse(JSON.stringify(graph.state)) };
  const options = runs.get(message.prompt_id)?.options;
  await track(posts, post(tracker, [0, data, options]));
  return true;
}

/** A prompt with the values of an earlier prompt, except links. */
function asBefore(output, before) {
  const isLink = (value) => Array.isArray(value);
  for (const [id, { inputs }] of Object.entries(output)) {
    for (const [name, value] of Object.entries(before?.[id]?.inputs ?? {})) {
      if (name in inputs && !isLink(inputs[name]) && !isLink(value)) inputs[name] = value;
    }
  }
  return output;
}

/** The widgets whose values change automatically after each run, and their values. */
function controlledValues() {
  const found = new Map();
  for (const place of places()) {
    for (const control of place.node.widgets ?? []) {
      if (!control.beforeQueued && !control.afterQueued) continue;
      for (const { name } of place.node.widgets) {
        const target = counted(place, name)?.widget;
        if (typeof target?.value === "number") found.set(target, target.value);
      }
    }
  }
  return found;
}

let originalQueue = null;
const beforeQueued = [];

/** Has something done to every prompt before it is sent: `act` takes its nodes by their paths. */
export const onQueue = (act) => beforeQueued.push(act);

/** Sends a prompt, and remembers to which workflow it belongs. */
async function post(tracker, [number, data, options, ...rest]) {
  const { output } = data;
  for (const act of beforeQueued) act(output);
  const answer = await originalQueue.call(api, number, data, options, ...rest);
  if (answer?.prompt_id) {
    runs.set(answer.prompt_id, { tracker, output, options, ended: null });
    while (runs.size > KEPT_RUNS) runs.delete(runs.keys().next().value);
  }
  return answer;
}

async function queuePrompt(number, data, ...rest) {
  const item = goingOn.get(number);
  goingOn.delete(number);
  if (item) asBefore(data.output, item.before);
  try {
    return await track(posts, post(active()?.changeTracker, [item ? 0 : number, data, ...rest]));
  } finally {
    // The editor changes the seeds directly after this.
    if (item) setTimeout(() => restore(item.seeds));
  }
}

function restore(values) {
  for (const [target, value] of values) {
    if (target.value === value) continue;
    target.value = value;
    target.callback?.(value, app.canvas);
  }
}

const isPending = ({ ended }) => ended === null || Date.now() - ended < LATE;

/** Saves the data of the shown workflow that is needed to act on it when it is no longer shown. */
async function leave() {
  const tracker = active()?.changeTracker;
  if (!tracker) return;
  await Promise.all(posts); // so that all runs that have begun are known
  left.delete(tracker);
  const pending = [...runs.values()].filter((run) => run.tracker === tracker);
  if (!pending.some(isPending)) return;
  const all = [...places()];
  const names = new Map(
    all.map(({ node }) => [
      node.type,
      (node.widgets ?? []).map((widget) => (widget.serialize === false ? null : widget.name)),
    ]),
  );
  const resting = all.filter(
    ({ node }) => !node.subgraph && [MUTED, BYPASSED].includes(node.mode),
  );
  const modes = new Map(resting.map(({ node }) => [node, node.mode]));
  try {
    for (const node of modes.keys()) node.mode = 0;
    const { output } = await app.graphToPrompt();
    left.set(tracker, { names, prompt: output });
  } catch (error) {
    console.warn("Detailers: no prompt can be made from the workflow that was left", error);
    left.set(tracker, { names, prompt: null });
  } finally {
    for (const [node, mode] of modes) node.mode = mode;
  }
}

function openAfterLeaving(name) {
  const original = app[name];
  app[name] = function (...args) {
    return track(
      loads,
      leave().then(async () => {
        const result = await original.apply(this, args);
        for (const act of whenShown) act();
        if (waiting.delete(active()?.changeTracker)) app.queuePrompt(0, 1);
        return result;
      }),
    );
  };
}

app.registerExtension({
  name: "Detailers.Workflow",

  init() {
    originalQueue = api.queuePrompt;
    api.queuePrompt = queuePrompt;
    openAfterLeaving("loadGraphData");
    openAfterLeaving("loadApiJson");
    for (const end of ENDS) {
      api.addEventListener(end, ({ detail }) => {
        const run = runs.get(detail?.prompt_id);
        if (run) run.ended = Date.now();
      });
    }
  },
});
