"""Switches that only run the chosen branch of a graph, and nodes that act on the editor."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ...core.graph.switches import (
    ACTIVE,
    MODES,
    MUTED,
    TARGETS,
    input_label,
    output_count,
    remote_place,
)
from ...core.graph.values import shown
from ...core.host.flow import wrong_link
from ...core.host.messages import BLOCKED, tell_editor, wait
from ...utils.check import check_image
from ...utils.notes import note
from ..widgets import Numbered, described

log = logging.getLogger(__name__)

CATEGORY = "Detailers/Flow"
MAX_ID = 2**64 - 1
MAX_CHOICE = 999999
_PASSED_ON = "The same signal that is connected to the input."
_ONLY_STOPPED = (
    "'behavior' is {behavior}, but the nodes after this one could only be stopped, because they "
    "were not known before the run. Without the editor, 'mode' must have no link. In the editor, "
    "the output must be connected."
)
_ON_PROMPT = {
    "default": False, "label_on": "select_on_prompt", "label_off": "select_on_execution",
    "forceInput": False,
}  # fmt: skip


def _not_connected(select: int, name: str) -> str:
    return (
        f"'select' is {select}, but '{name}' is not connected. Connect it, or select another one."
    )


def _check_select(
    select: int | None, last: int, name_of: Callable[[int], str], links: dict, values: dict
) -> bool | str:
    """True if the chosen input is connected; otherwise the error text for ComfyUI.

    Args:
        select: the choice. None: it comes over a link, and is only known when the node runs.
        name_of: gives the name of the input for a number.
        links, values: the inputs with a link, and those with a value.
    """
    if select is None:
        return True
    if not 1 <= select <= last:
        return f"'select' is {select}, but it has to be a number from 1 to {last}."
    name = name_of(select)
    is_there = name in links or values.get(name) is not None
    return is_there or _not_connected(select, name)


def _select(last: int = MAX_CHOICE) -> tuple[str, dict]:
    span = {"default": 1, "min": 1, "max": last, "step": 1}
    return described("INT", "The number of the choice; the first is 1.", **span)


def _signal(
    tooltip: str = "Any value. It is passed on. The node acts when the value is there.",
) -> tuple:
    return described("*", tooltip)


def _node_id(tooltip: str) -> tuple[str, dict]:
    return described("INT", tooltip, default=0, min=0, max=MAX_ID)


def always(cls, **_inputs) -> float:
    """IS_CHANGED of nodes that act in every run, even if their inputs are the same."""
    return float("nan")  # a new object each time, since ComfyUI also compares by identity


# Switches -------------------------------------------------------------------------------------


class ImpactSwitch:
    DESCRIPTION = "Passes on one of any number of inputs. Only the nodes before that input run."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("*", "STRING", "INT")
    RETURN_NAMES = ("selected_value", "selected_label", "selected_index")
    OUTPUT_TOOLTIPS = (
        "The value of the chosen input, or nothing if it is not connected.",
        "The label of the chosen input.",
        "The number of the chosen input.",
    )
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        when = (
            "select_on_prompt: the other inputs are removed from the prompt, so the nodes "
            "before them may be incomplete. It needs a 'select' without a link. "
            "select_on_execution: all nodes are checked first."
        )
        each = "One of the inputs. When the last one is connected, the next appears."
        return {
            "required": {
                "select": _select(),
                "sel_mode": described("BOOLEAN", when, **_ON_PROMPT),
            },
            "optional": Numbered("input", "*", each, listed=1, lazy=True),
            "hidden": {"unique_id": "UNIQUE_ID", "extra_pnginfo": "EXTRA_PNGINFO"},
        }

    @classmethod
    def VALIDATE_INPUTS(cls, input_types, select=None, **given):
        return _check_select(
            select, MAX_CHOICE, lambda number: f"input{number}", input_types, given
        )

    def check_lazy_status(self, select, **values):
        return [f"input{select}"] if f"input{select}" in values else []

    def run(self, select, sel_mode, unique_id=None, extra_pnginfo=None, **values):
        name = f"input{select}"
        if name not in values:
            raise ValueError(_not_connected(select, name))
        label = input_label((extra_pnginfo or {}).get("workflow"), str(unique_id), name)
        return values[name], label, select


class ImageMaskSwitch:
    DESCRIPTION = (
        "Passes on one of four images and its mask. Only the nodes before the chosen inputs run."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("IMAGE", "MASK")
    OUTPUT_TOOLTIPS = (
        "The chosen images.",
        "The mask of the images, or nothing if none is connected.",
    )
    OUTPUT_NODE = True
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        pairs = {}
        for number in range(1, 5):
            images, mask = cls.names(number)
            pairs[images] = described("IMAGE", f"Choice {number}.", lazy=True)
            pairs[mask] = described("MASK", f"The mask of choice {number}.", lazy=True)
        first = pairs.pop("images1")
        return {"required": {"select": _select(4), "images1": first}, "optional": pairs}

    @staticmethod
    def names(number: int) -> tuple[str, str]:
        """The names of the inputs for images and mask of a choice."""
        return "images1" if number == 1 else f"images{number}_opt", f"mask{number}_opt"

    @classmethod
    def VALIDATE_INPUTS(cls, input_types, select=None, **given):
        wrong = wrong_link(cls, input_types)
        return wrong or _check_select(select, 4, lambda n: cls.names(n)[0], input_types, given)

    def check_lazy_status(self, select, **values):
        return [name for name in self.names(select) if name in values]

    def run(self, select, **values):
        images, mask = (values.get(name) for name in self.names(select))
        if images is None:
            raise ValueError(_not_connected(select, self.names(select)[0]))
        check_image(images, self.names(select)[0])
        return images, mask


class _AnyNumber(tuple):
    """The output types of a node that has any number of outputs: the last type is repeated."""

    def __getitem__(self, index):
        return super().__getitem__(min(index, len(self) - 1) if isinstance(index, int) else index)


class ImpactInversedSwitch:
    DESCRIPTION = (
        "Passes the input on to one of any number of outputs. The nodes after the other "
        "outputs do not run."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = _AnyNumber(("*",))
    OUTPUT_TOOLTIPS = ("The input, if this output is chosen.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        when = (
            "select_on_prompt: the other outputs are removed from the prompt, so nodes that do "
            "not need them still run. It needs a 'select' without a link. select_on_execution: "
            "the nodes after the other outputs are stopped."
        )
        return {
            "required": {"select": _select(), "input": described("*", "Anything.")},
            "optional": {"sel_mode": described("BOOLEAN", when, **_ON_PROMPT)},
            "hidden": {"dynprompt": "DYNPROMPT", "unique_id": "UNIQUE_ID"},
        }

    def run(self, select, input, sel_mode=False, dynprompt=None, unique_id=None):
        count = output_count(dynprompt, unique_id)
        return tuple(input if number == select else BLOCKED for number in range(1, count + 1))


class ImpactControlBridge:
    DESCRIPTION = (
        "Passes a value on, or stops, mutes or bypasses the nodes after it. To mute or bypass, "
        "it changes the nodes in the editor, which then continues the same run. Without an "
        "editor this is done before the run if 'mode' has no link; otherwise the nodes are "
        "stopped."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("*",)
    RETURN_NAMES = ("value",)
    OUTPUT_TOOLTIPS = ("The same value that is connected to the input.",)
    OUTPUT_NODE = True
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        labels = {"default": True, "label_on": "Active", "label_off": "Stop/Mute/Bypass"}
        what = (
            "Stop: the nodes after it do not run. Mute, Bypass: the next nodes are muted or "
            "bypassed."
        )
        return {
            "required": {
                "value": described("*", "Anything."),
                "mode": described("BOOLEAN", "Whether the next nodes run.", **labels),
                "behavior": (["Stop", "Mute", "Bypass"], {"tooltip": what}),
            },
            "hidden": {TARGETS: "DETAILERS_TARGETS"},
        }

    def run(self, value, mode, behavior, targets=None):
        targets = targets or {}
        if behavior == "Stop" or (not targets and not mode):
            if behavior != "Stop":
                note("control_bridge", _ONLY_STOPPED.format(behavior=behavior))
            return (value if mode else BLOCKED,)
        wanted = ACTIVE if mode else MODES[behavior]
        changed = [node for node, now in targets.items() if now != wanted]
        if changed:
            tell_editor("mode", nodes=changed, mode=wanted, queue=True)
        return (BLOCKED if changed else value,)


class ImpactExecutionOrderController:
    DESCRIPTION = (
        "Passes a value on when a signal is there. So the nodes that make the signal run before "
        "the nodes that use the value."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("*", "*")
    RETURN_NAMES = ("signal", "value")
    OUTPUT_TOOLTIPS = (_PASSED_ON, "The same value that is connected to the input.")
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"signal": _signal("Anything."), "value": described("*", "Anything.")}}

    def run(self, signal, value):
        return signal, value


# The editor -----------------------------------------------------------------------------------


class ImpactQueueTrigger:
    DESCRIPTION = "The editor queues the workflow again."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("*",)
    RETURN_NAMES = ("signal_opt",)
    OUTPUT_TOOLTIPS = (_PASSED_ON,)
    OUTPUT_NODE = True
    FUNCTION = "run"
    IS_CHANGED = classmethod(always)

    @classmethod
    def INPUT_TYPES(cls):
        labels = {"default": True, "label_on": "Trigger", "label_off": "Don't trigger"}
        return {
            "required": {
                "signal": _signal(),
                "mode": described("BOOLEAN", "Whether to queue.", **labels),
            }
        }

    def run(self, signal, mode):
        if mode:
            tell_editor("queue")
        return (signal,)


class ImpactQueueTriggerCountdown:
    DESCRIPTION = (
        "The editor queues the workflow until it has run a number of times. The node counts "
        "the runs in 'count'."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("*", "INT", "INT")
    RETURN_NAMES = ("signal_opt", "count", "total")
    OUTPUT_TOOLTIPS = (_PASSED_ON, "The number of this run; the first is 0.", "The number of runs.")
    OUTPUT_NODE = True
    FUNCTION = "run"
    IS_CHANGED = classmethod(always)

    @classmethod
    def INPUT_TYPES(cls):
        count = (
            "The number of the next run. It goes up automatically, and back to 0 after the last "
            "run."
        )
        labels = {"default": True, "label_on": "Trigger", "label_off": "Don't trigger"}
        return {
            "required": {
                "count": _node_id(count),
                "total": described("INT", "The number of runs.", default=10, min=1, max=MAX_ID),
                "mode": described("BOOLEAN", "Whether to queue.", **labels),
            },
            "optional": {"signal": _signal()},
            "hidden": {"unique_id": "UNIQUE_ID"},
        }

    def run(self, count, total, mode, signal=None, unique_id=None):
        if mode:
            goes_on = count < total - 1
            following = count + 1 if goes_on else 0
            tell_editor("widget", node=unique_id, widget="count", value=following)
            if goes_on:
                tell_editor("queue")
        return signal, count, total


class ImpactConditionalStopIteration:
    DESCRIPTION = "Ends the editor's automatic queueing."
    CATEGORY = CATEGORY
    RETURN_TYPES = ()
    OUTPUT_TOOLTIPS = ()
    OUTPUT_NODE = True
    FUNCTION = "run"
    IS_CHANGED = classmethod(always)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"cond": described("BOOLEAN", "Whether to end it.", forceInput=True)}}

    def run(self, cond):
        if cond:
            tell_editor("stop")
        return ()


class ImpactSetWidgetValue:
    DESCRIPTION = (
        "Sets a value of another node in the editor, for the next run. If several values are "
        "connected, the first one is used."
    )
    CATEGORY = CATEGORY
    RETURN_TYPES = ("*",)
    RETURN_NAMES = ("signal_opt",)
    OUTPUT_TOOLTIPS = (_PASSED_ON,)
    OUTPUT_NODE = True
    FUNCTION = "run"
    IS_CHANGED = classmethod(always)

    @classmethod
    def INPUT_TYPES(cls):
        kinds = ("boolean", "int", "float", "string")
        return {
            "required": {
                "signal": _signal(),
                "node_id": _node_id("The id of the node whose value is set."),
                "widget_name": described("STRING", "The name of the value.", multiline=False),
            },
            "optional": {
                f"{kind}_value": described(kind.upper(), "The new value.", forceInput=True)
                for kind in kinds
            },
            "hidden": {"unique_id": "UNIQUE_ID"},
        }

    def run(self, signal, node_id, widget_name, unique_id=None, **values):
        value = next((value for value in values.values() if value is not None), None)
        if value is None:
            note("input", "No value is set, because no value is connected.")
        else:
            place = {"sender": unique_id, "node": str(node_id)}
            heard = tell_editor("widget", **place, widget=widget_name, value=value)
            if not heard:
                note("editor", "This prompt was not queued by an editor, so no value is set there.")
        return (signal,)


class ImpactNodeSetMuteState:
    DESCRIPTION = "Mutes another node in the editor, or makes it active, for the next run."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("*",)
    RETURN_NAMES = ("signal_opt",)
    OUTPUT_TOOLTIPS = (_PASSED_ON,)
    OUTPUT_NODE = True
    FUNCTION = "run"
    IS_CHANGED = classmethod(always)

    @classmethod
    def INPUT_TYPES(cls):
        labels = {"default": True, "label_on": "active", "label_off": "mute"}
        return {
            "required": {
                "signal": _signal(),
                "node_id": _node_id("The id of the node that is muted or made active."),
                "set_state": described("BOOLEAN", "The new state of the node.", **labels),
            },
            "hidden": {"unique_id": "UNIQUE_ID"},
        }

    def run(self, signal, node_id, set_state, unique_id=None):
        mode = ACTIVE if set_state else MUTED
        tell_editor("mode", sender=unique_id, nodes=[str(node_id)], mode=mode)
        return (signal,)


class ImpactRemoteInt:
    DESCRIPTION = "Sets a whole number in another node when the workflow is queued."
    CATEGORY = CATEGORY
    RETURN_TYPES = ()
    OUTPUT_TOOLTIPS = ()
    OUTPUT_NODE = True
    FUNCTION = "run"
    IS_CHANGED = classmethod(always)  # it depends on other nodes

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "node_id": _node_id("The id of the node whose value is set."),
                "widget_name": described("STRING", "The name of the value.", multiline=False),
                "value": cls.value(),
            },
            "hidden": {"prompt": "PROMPT", "unique_id": "UNIQUE_ID"},
        }

    @staticmethod
    def value() -> tuple[str, dict]:
        """The input for the value that is set."""
        return described("INT", "The new value.", default=0, min=-MAX_ID, max=MAX_ID)

    def run(self, node_id, widget_name, value, prompt=None, unique_id=None):
        """Tell the user if no value was set. Values are set before the run, see `set_remotely`."""
        if unique_id in (prompt or {}) and remote_place(prompt, unique_id) is None:
            note(
                "remote",
                f"No value is set: there is no node {node_id}, or it has no widget {widget_name!r}"
                " without a link. Check 'node_id' and 'widget_name'.",
            )
        return ()


class ImpactRemoteBoolean(ImpactRemoteInt):
    DESCRIPTION = "Sets a boolean in another node when the workflow is queued."

    @staticmethod
    def value() -> tuple[str, dict]:
        labels = {"default": True, "label_on": "True", "label_off": "False"}
        return described("BOOLEAN", "The new value.", **labels)


class ImpactSleep:
    DESCRIPTION = "Waits, and then passes the signal on."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("*",)
    RETURN_NAMES = ("signal_opt",)
    OUTPUT_TOOLTIPS = (_PASSED_ON,)
    OUTPUT_NODE = True
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        span = {"default": 0.5, "min": 0, "max": 3600}
        return {
            "required": {
                "signal": _signal("Any value. It is passed on."),
                "seconds": described("FLOAT", "How long.", **span),
            }
        }

    def run(self, signal, seconds):
        wait(seconds)
        return (signal,)


class ImpactLogger:
    DESCRIPTION = "Writes its input to ComfyUI's log."
    CATEGORY = CATEGORY
    RETURN_TYPES = ()
    OUTPUT_TOOLTIPS = ()
    OUTPUT_NODE = True
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "data": described("*", "The value to write."),
                "text": described("STRING", "A text to write in front of it.", multiline=True),
            },
            "hidden": {"unique_id": "UNIQUE_ID"},
        }

    def run(self, data, text, unique_id=None):
        what = shown(data, repr)[:2000]
        if (shape := getattr(data, "shape", None)) is not None:
            what = f"{type(data).__name__} {shown(shape, lambda sides: str(list(sides)))}"
        log.info("node %s: %s %s", unique_id, text, what)
        return ()


class ImpactDummyInput:
    DESCRIPTION = "Gives a text without meaning, for an input that must be connected."
    CATEGORY = CATEGORY
    RETURN_TYPES = ("*",)
    OUTPUT_TOOLTIPS = ("The text DUMMY.",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def run(self):
        return ("DUMMY",)


NODES = {
    "ImpactSwitch": (ImpactSwitch, "Switch (Any)"),
    "LatentSwitch": (ImpactSwitch, "Switch (latent/legacy)"),
    "SEGSSwitch": (ImpactSwitch, "Switch (SEGS/legacy)"),
    "ImageMaskSwitch": (ImageMaskSwitch, "Switch (images, mask)"),
    "ImpactInversedSwitch": (ImpactInversedSwitch, "Inversed Switch (Any)"),
    "ImpactControlBridge": (ImpactControlBridge, "Control Bridge"),
    "ImpactExecutionOrderController": (
        ImpactExecutionOrderController,
        "Execution Order Controller",
    ),
    "ImpactQueueTrigger": (ImpactQueueTrigger, "Queue Trigger"),
    "ImpactQueueTriggerCountdown": (ImpactQueueTriggerCountdown, "Queue Trigger (Countdown)"),
    "ImpactConditionalStopIteration": (
        ImpactConditionalStopIteration,
        "ImpactConditionalStopIteration",
    ),
    "ImpactSetWidgetValue": (ImpactSetWidgetValue, "Set Widget Value"),
    "ImpactNodeSetMuteState": (ImpactNodeSetMuteState, "Set Mute State"),
    "ImpactRemoteInt": (ImpactRemoteInt, "Remote Int (on prompt)"),
    "ImpactRemoteBoolean": (ImpactRemoteBoolean, "Remote Boolean (on prompt)"),
    "ImpactSleep": (ImpactSleep, "Sleep"),
    "ImpactLogger": (ImpactLogger, "ImpactLogger"),
    "ImpactDummyInput": (ImpactDummyInput, "ImpactDummyInput"),
}
