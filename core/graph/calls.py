"""Calls and subclasses of our nodes by other packs, which expect the nodes of ComfyUI-Impact-Pack.

Other packs call methods on a class or on an object, with inputs by position or by name, and leave
out inputs that they do not know. Their subclasses do not inherit inputs that the nodes of that pack
never had.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from ...utils.literal import read_literal

HOSTS_METHOD = "run_in_host"  # FUNCTION of every node: the method that ComfyUI calls
# Optional inputs that ComfyUI-Impact-Pack's nodes of the same ids do not have.
OWN_INPUTS = frozenset({
    "crop_options", "detail_batch", "download", "paste_options", "restore_latent", "segment_plan",
    "size_grid", "variants",
})  # fmt: skip
# Outputs at the end of nodes that their older namesakes do not have.
OWN_OUTPUTS = frozenset({"report", "variants"})
_WRITING_AID = "Select to add"  # the names of choices that only help to write a text begin so
_PACK = __name__.removesuffix(".core.graph.calls")
_NODES = f"{_PACK}.nodes."  # the names of our classes' modules begin so
_CALLERS = 6  # how many callers are checked to find out who asks for inputs

# The older FUNCTION of nodes for which it was not `doit`.
OLDER_METHODS: Mapping[str, str] = {
    "SAMLoader": "load_model",
    "ONNXDetectorProvider": "load_onnx",
    "ImpactKSamplerBasicPipe": "sample",
    "ImpactKSamplerAdvancedBasicPipe": "sample",
}
# Methods that take inputs in another order than the node shows them. Other inputs follow.
_MOVED: Mapping[str, tuple[str, str]] = {  # class -> the input after which, the inputs in order
    "DetailerForEachPipe": (
        "wildcard",
        "refiner_ratio detailer_hook refiner_basic_pipe_opt cycle",
    ),
    "DetailerForEachDebug": ("wildcard", "detailer_hook cycle"),
    "DetailerForEachDebugPipe": (
        "wildcard",
        "cycle refiner_ratio detailer_hook refiner_basic_pipe_opt",
    ),
    "KSamplerAdvancedProvider": ("scheduler", "basic_pipe sigma_factor"),
    "PixelKSampleUpscalerProvider": (
        "use_tiled_vae",
        "upscale_model_opt pk_hook_opt tile_size",
    ),
    "PixelKSampleUpscalerProviderPipe": (
        "use_tiled_vae",
        "basic_pipe upscale_model_opt pk_hook_opt tile_size",
    ),
    "ImpactEdit_SEG_ELT": (
        "cropped_mask_opt",
        "confidence_opt crop_region_opt bbox_opt label_opt control_net_wrapper_opt",
    ),
}


# Calls ----------------------------------------------------------------------------------------


class Entry:
    """A method that may also be called on the class. Then a new object of the class is made.

    Attributes:
        is_given: whether `core/graph/node_calls.py` has added it to the class.
    """

    def __init__(self, function: Callable[..., Any], is_given: bool = False) -> None:
        self.function, self.is_given = function, is_given
        functools.update_wrapper(self, function)

    def __get__(self, instance: Any, owner: type) -> Callable[..., Any]:
        if instance is not None:
            return self.function.__get__(instance, owner)

        @functools.wraps(self.function)
        def call(*args: Any, **inputs: Any) -> Any:
            if args and isinstance(args[0], owner):
                return self.function(*args, **inputs)
            return self.function(owner(), *args, **inputs)

        return call


def called_as(parameters: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a function that takes keywords a signature with these parameters.

    Args:
        parameters: as in a definition, such as "image, segs, cycle=1". A parameter that is not
            passed gets its default.
    """
    names = [part.split("=") for part in "".join(parameters.split()).split(",")]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    signature = inspect.Signature([
        inspect.Parameter(name, kind, **({"default": read_literal(value[0])} if value else {}))
        for name, *value in names
    ])  # fmt: skip

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **given: Any) -> Any:
            bound = signature.bind(*args, **given)
            bound.apply_defaults()
            return function(**bound.arguments)

        call.__signature__ = signature
        return call

    return decorate


def named(node: type, args: Sequence[Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of a node by name, from a call of `doit` as the older node of that id takes it.

    Args:
        args: inputs by position, in the order of the older node.
        inputs: inputs by name.

    Returns:
        All inputs by name. Required widgets that were not passed get their default.

    Raises:
        TypeError: there are too many inputs by position, or one was passed twice.
    """
    groups = node.INPUT_TYPES()
    required, optional = groups.get("required", {}), groups.get("optional", {})
    order = older_order(node, [*dict.keys(required), *dict.keys(optional)])
    if len(args) > len(order):
        raise TypeError(
            f"{node.__name__} takes {len(order)} inputs by position, but {len(args)} were given: "
            f"{', '.join(order)}."
        )
    given = dict(zip(order, args, strict=False))
    if twice := sorted(given.keys() & inputs.keys()):
        raise TypeError(f"{node.__name__} was given {', '.join(twice)} both by position and name.")
    given.update(inputs)
    in_lists = getattr(node, "INPUT_IS_LIST", False)
    for name, entry in required.items():
        if name in given:
            continue
        default = _default(entry)
        if default is not None:
            given[name] = [default] if in_lists else default
    if not in_lists:
        for name, entry in (*required.items(), *dict.items(optional)):
            if entry[0] == "IMAGE" and name in given:
                given[name] = _one_batch(given[name])
    return given


def older_result(node: type, result: Any) -> Any:
    """What `doit` of the older node of that id gives: a node's result without outputs of ours."""
    names = getattr(node, "RETURN_NAMES", ())
    older = len(names)
    while older and names[older - 1] in OWN_OUTPUTS:
        older -= 1
    if older == len(names):
        return result
    if isinstance(result, dict) and isinstance(result.get("result"), tuple):
        return {**result, "result": result["result"][:older]}
    return result[:older] if isinstance(result, tuple) else result


def older_order(node: type, names: Sequence[str]) -> list[str]:
    """The order in which the older node of that id takes its inputs, followed by our own inputs."""
    names = [name for name in names if not name.startswith(_WRITING_AID)]
    own = [name for name in names if name in OWN_INPUTS]
    order = [name for name in names if name not in OWN_INPUTS]
    after, moved = _MOVED.get(node.__name__, ("", ""))
    if after in order:
        block = [name for name in moved.split() if name in order]
        rest = [name for name in order if name not in block]
        place = rest.index(after) + 1
        order = [*rest[:place], *block, *rest[place:]]
    return order + own


def _default(entry: tuple) -> Any:
    kind, options = (*entry, {})[:2]
    if "default" in options:
        return options["default"]
    if isinstance(kind, list) and kind:
        return kind[0]
    return "" if kind == "STRING" and not options.get("forceInput") else None


def _one_batch(image: Any) -> Any:
    """A list of images, each [H,W,C] or [B,H,W,C], as one batch [B,H,W,C]."""
    if not isinstance(image, list | tuple) or not image:
        return image
    if not all(isinstance(one, torch.Tensor) for one in image):
        return image
    return torch.cat([one[None] if one.ndim == 3 else one for one in image])


# Inheriting -----------------------------------------------------------------------------------


class OlderInputs(classmethod):
    """INPUT_TYPES that give classes of other packs only the inputs that the older node has.

    Other packs inherit it, assign it to their own class, or call it in their own INPUT_TYPES.
    """

    def __init__(self, declared: Callable[[type], dict], node: type) -> None:
        super().__init__(declared)
        self.node = node

    def __get__(self, instance: Any, owner: type | None = None) -> _InputTypes:
        return _InputTypes(self.__func__, self.node, owner or type(instance))


class _InputTypes:
    """INPUT_TYPES as an attribute of a class."""

    def __init__(self, declared: Callable[[type], dict], node: type, owner: type) -> None:
        self.__func__, self.__self__, self._node = declared, owner, node

    def __get__(self, instance: Any, owner: type | None = None) -> _InputTypes:
        # Another class has assigned it to its own attribute.
        return _InputTypes(self.__func__, self._node, owner or type(instance))

    def __call__(self) -> dict[str, Any]:
        owner = self.__self__
        groups = self.__func__(owner if issubclass(owner, self._node) else self._node)
        if not is_own(owner):
            return without_own(groups, owner)
        return without_own(groups) if _asked_by_another_class() else groups


def give_older_inputs(node: type) -> None:
    """Let a class give classes of other packs only the inputs of the older node, in place."""
    declared = node.__dict__.get("INPUT_TYPES")
    if isinstance(declared, OlderInputs):
        return
    if declared is None:

        def function(cls: type) -> dict[str, Any]:
            return super(node, cls).INPUT_TYPES()

    else:
        function = declared.__func__
    node.INPUT_TYPES = OlderInputs(function, node)


def is_own(node: type) -> bool:
    """Whether a class belongs to this pack."""
    return node.__module__.startswith(_NODES)


def _asked_by_another_class() -> bool:
    """Whether another pack's class asks for inputs in order to build its own.

    It asks in its own INPUT_TYPES, directly or through a helper, or while its module is loaded.
    """
    caller = sys._getframe(2)
    for _ in range(_CALLERS):
        if caller is None:
            return False
        name, module = caller.f_code.co_name, caller.f_globals.get("__name__", "")
        if name == "INPUT_TYPES" and not module.startswith(_NODES):
            return True
        if name == "<module>" and not module.startswith(("__main__", _PACK)):
            return True
        caller = caller.f_back
    return False


def without_own(groups: Mapping[str, Any], owner: type | None = None) -> dict[str, Any]:
    """The inputs without those that only this pack has.

    Args:
        owner: a class of another pack. It only gets the hidden inputs that its method takes.
    """
    found = dict(groups)
    optional = groups.get("optional")
    if type(optional) is dict:
        found["optional"] = {k: entry for k, entry in optional.items() if k not in OWN_INPUTS}
    if owner is not None and groups.get("hidden"):
        takes = _takes(owner)
        found["hidden"] = {k: kind for k, kind in groups["hidden"].items() if takes(k)}
    return found


def _takes(node: type) -> Callable[[str], bool]:
    """Which inputs are taken by the method that ComfyUI calls for a class of another pack."""
    name = "doit" if node.FUNCTION == HOSTS_METHOD else node.FUNCTION
    method = inspect.getattr_static(node, name, None)
    if method is None or isinstance(method, Entry):
        return lambda name: True
    try:
        spec = inspect.signature(getattr(node, name)).parameters.values()
    except (TypeError, ValueError):
        return lambda name: True
    names = {parameter.name for parameter in spec}
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in spec)
    return lambda name: open_ended or name in names
