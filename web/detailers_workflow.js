// Which workflow a run belongs to. What its nodes ask for is done there, shown or not, and queued
// from there; once the workflow is closed, nothing is.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { counted, places, root, shown } from "./detailers_graph.js";
import { SavedGraph } from "./detailers_saved.js";

const MUTED = 2;
const BYPASSED = 4;
const KEPT_RUNS = 200; // of which something is known
const LATE = 5000; // milliseconds in which messages of a run that has ended may still come
const ENDS = ["execution_success", "execution_error", "execution_interrupted"];

// An open workflow is told from others by its change tracker: names are given again.
const runs = new Map(); // by number: {tracker, output, options, ended}
const left = new WeakMap(); // by tracker: what was noted when the workflow was left
const waiting = new WeakSet(); // trackers of workflows to queue once they are shown
const goingOn = new Map(); // by the number that a queued item is given: the run that goes on
const posts = new Set(); // promises of prompts that are sent
const loads = new Set(); // and of workflows that are opened

const store = () => app.extensionManager?.workflow;
const active = () => store()?.activeWorkflow ?? null;
const opened = (tracker) =>
  tracker && store()?.openWorkflows?.find((workflow) => workflow.changeTracker === tracker);

/** Keeps a promise in a set until it has come to its end, whatever that is. */
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

/** The open workflow of a message; null where it is closed, or of another page. */
function workflowOf({ prompt_id: run, workflow_id: id }) {
  const known = runs.get(run);
  if (known) return opened(known.tracker) ?? null;
  if (!id) return null;
  if (active() && root()?.id === id) return active();
  return store()?.openWorkflows?.find((workflow) => workflow.activeState?.id === id) ?? null;
}

let last = Promise.resolve();

/** Has something done once all is sent and opened that has begun, one after another. */
function inTurn(name, act) {
  last = last
    .then(async () => {
      await allIsDone();
      await act();
    })
    .catch((error) => console.error(`Detailers: "${name}" went wrong`, error));
}

/** Has every message of a kind acted on in its workflow, one after another. */
export function onMessage(name, act) {
  api.addEventListener(`detailers-${name}`, ({ detail }) => {
    inTurn(name, () => actOn(detail ?? {}, act));
  });
}

const ONLY = {}; // the key of an editor that knows of one workflow alone

/** What tells the workflow that is shown from all others. */
export const shownKey = () => active()?.changeTracker ?? ONLY;

/**
 * Tells of what the host says of the runs of open workflows.
 *
 * @param names of the host's messages.
 * @param act takes a message's name and {key, run, output, detail}: the workflow's key, the run's
 * number, the prompt that was sent, and what the host says.
 */
export function onRuns(names, act) {
  let run = null; // the one that goes on: not every message says so
  api.addEventListener("execution_start", ({ detail }) => (run = detail?.prompt_id ?? null));
  for (const name of names) {
    api.addEventListener(name, ({ detail }) => {
      const its = detail?.prompt_id ?? run;
      inTurn(name, () => {
        const { tracker, output } = runs.get(its) ?? {};
        const key = store() ? opened(tracker)?.changeTracker : runs.has(its) && ONLY;
        if (key) act(name, { key, run: its, output, detail });
      });
    });
  }
}

const whenShown = [];

/** Has something done whenever a workflow is shown that was not, or is read anew. */
export const onShown = (act) => whenShown.push(act);

async function actOn(message, act) {
  if (!store()) return act(shown, message); // an editor that knows of one workflow alone
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
 * Goes on with the run of a message now that modes of nodes have changed: with the values that it
 * had, and so with the results that it has already. Seeds stay for the next run as they are.
 */
export async function goOn(graph, message) {
  const before = runs.get(message.prompt_id)?.output;
  if (graph !== shown) {
    await send(graph, workflowOf(message)?.changeTracker, message, (prompt) => asBefore(prompt, before));
    return;
  }
  const number = Object(0); // a number like any other to the editor, and known here
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

/** A prompt with the values of an earlier one, where those are no links. */
function asBefore(output, before) {
  const isLink = (value) => Array.isArray(value);
  for (const [id, { inputs }] of Object.entries(output)) {
    for (const [name, value] of Object.entries(before?.[id]?.inputs ?? {})) {
      if (name in inputs && !isLink(inputs[name]) && !isLink(value)) inputs[name] = value;
    }
  }
  return output;
}

/** The widgets whose values change by themselves with each run, and their values. */
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

/** Sends a prompt, and remembers whose it is. */
async function post(tracker, [number, data, options, ...rest]) {
  const { output } = data;
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
    // The editor changes seeds right after this.
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

/** Notes of the workflow that is shown what it takes to act on it once it is not. */
async function leave() {
  const tracker = active()?.changeTracker;
  if (!tracker) return;
  await Promise.all(posts); // a run that has begun is to be known
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
    console.warn("Detailers: no prompt can be made of the workflow that is left", error);
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
