"""How many rows are sampled at once: a simulated card, and ComfyUI's own loader of models."""

import contextlib
import types

import comfy.model_management as management
import comfy.model_patcher
import torch
from detailers.core.backend import SamplerRun
from detailers.core.host.backend import ComfyBackend

GIB = 1024**3
CARD, OTHER_CARD = torch.device("cuda", 0), torch.device("cuda", 1)
CPU, MPS = torch.device("cpu"), torch.device("mps")
NORMAL, LOW, NO, HIGH = (
    getattr(management.VRAMState, f"{name}_VRAM") for name in ("NORMAL", "LOW", "NO", "HIGH")
)
SIGMAS, SAMPLES = torch.tensor([1.0, 0.0]), torch.zeros(1, 4, 1, 5)
ROWS = 64


class Network(torch.nn.Module):
    """Needs this much memory for each cell of a latent's width, and of what is referred to."""

    reference = False

    def __init__(self, cell=GIB / 5):
        super().__init__()
        self.cell = cell

    def memory_required(self, input_shape, cond_shapes=None):
        shapes = [input_shape, *(cond_shapes or {}).get("ref_latents", [])]
        return sum(shape[0] * shape[-1] for shape in shapes) * self.cell

    def extra_conds_shapes(self, **options):
        return {"ref_latents": [1, 16, 5]} if self.reference else {}

    def get_dtype(self):
        return torch.float32


class Patcher(comfy.model_patcher.ModelPatcher):
    """A model of so many GiB. Its weights are numbers in this class only."""

    def __init__(self, gib, loaded=0.0, device=CARD, home=CPU, dynamic=False, network=None):
        super().__init__(network or Network(), device, home, size=gib * GIB)
        self.dynamic, self.beside = dynamic, []
        if loaded:
            self.model.model_loaded_weight_memory = loaded * GIB

    def is_dynamic(self):
        return self.dynamic

    def get_nested_additional_models(self):
        return self.beside

    def get_free_memory(self, device):
        paged = sum(m.loaded_size() for m in memory.on(device) if m.dynamic)
        return management.get_free_memory(device) + paged

    def held(self):
        """The memory that is not there for others, in bytes."""
        stays = self.offload_device == self.load_device != CPU
        return self.model_size() if stays else self.loaded_size()

    def partially_load(self, device_to, extra_memory=0, force_patch_weights=False):
        self.model.model_loaded_weight_memory = max(
            0, min(self.model_size(), self.loaded_size() + extra_memory)
        )

    def partially_unload(self, device_to, memory_to_free=0, force_patch_weights=False):
        freed = min(memory_to_free, self.loaded_size())
        self.model.model_loaded_weight_memory -= freed
        return freed

    def detach(self, unpatch_all=True):
        if unpatch_all:
            self.model.model_loaded_weight_memory = 0


class Memory:
    """The memory of a device and what lies in it."""

    def __init__(self, gib, models):
        self.total, self.models = gib * GIB, models

    def on(self, device):
        known = {id(model.model): model for model in self.models}
        return [model for model in known.values() if model.load_device == device]

    def free(self, device=None, torch_free_too=False):
        free = self.total - sum(model.held() for model in self.on(device))
        return (free, 0) if torch_free_too else free


memory = Memory(0, [])


@contextlib.contextmanager
def card(gib, models, state=NORMAL, reserve=0.0, ratio=0.0, smart=True):
    """A device of so many GiB with these models; those that hold weights are loaded."""
    global memory
    memory = Memory(gib, models)
    values = {
        "get_free_memory": memory.free, "vram_state": state, "EXTRA_RESERVED_VRAM": reserve * GIB,
        "MIN_WEIGHT_MEMORY_RATIO": ratio, "current_loaded_models": [],
        "DISABLE_SMART_MEMORY": not smart,
    }  # fmt: skip
    before = {name: getattr(management, name) for name in values}
    for name, value in values.items():
        setattr(management, name, value)
    try:
        for model in models:
            if model.loaded_size():
                loaded = management.LoadedModel(model)
                loaded.real_model = lambda network=model.model: network
                loaded.model_finalizer = types.SimpleNamespace(detach=lambda: None)
                management.current_loaded_models.append(loaded)
        yield
    finally:
        for name, value in before.items():
            setattr(management, name, value)


def a_run(model, cfg=1.0, positive=None):
    text = [[torch.zeros(1, 2, 3), {}]]
    return SamplerRun(
        model, positive or text, text, cfg, "euler", SIGMAS, SIGMAS, 0, SAMPLES, SAMPLES
    )


def rows(model, **options):
    return ComfyBackend().rows_that_fit(a_run(model, **options), ROWS)


def fitting(gib, model, *others, along=(), **setting):
    """The rows for a model beside others, after ComfyUI's loader has made room for them.

    A row needs 1 GiB, and 1.5 GiB with the margin.
    """
    with card(gib, [model, *along, *others], **setting):
        model.beside = list(along)
        count = rows(model)
        if not (model.dynamic or model.load_device == CPU):
            management.load_models_gpu(
                [model, *along], memory_required=2 * count * GIB,
                minimum_memory_required=count * GIB,
            )  # fmt: skip
            left = memory.free(model.load_device) - management.extra_reserved_memory()
            assert count == 1 or left >= count * GIB, (count, left / GIB)
    return count


def check_the_models_weights_have_their_place():
    assert fitting(24, Patcher(5, loaded=5)) == 12  # 18 of 19 GiB
    assert fitting(24, Patcher(5)) == 12
    assert fitting(24, Patcher(5, loaded=2)) == 12
    assert fitting(23, Patcher(5)) == 11  # twelve take just as much as there is


def check_what_comfyui_unloads_is_free():
    for smart in (True, False):
        others = Patcher(9, loaded=9), Patcher(2, loaded=1)
        assert fitting(24, Patcher(5), *others, smart=smart) == 12
    assert fitting(24, Patcher(5), Patcher(9, loaded=9), state=LOW) == 12


def check_other_devices_do_not_count():
    elsewhere = Patcher(9, loaded=9, device=OTHER_CARD)
    assert fitting(15, Patcher(5), elsewhere) == 6


def check_a_copy_of_the_model_is_the_model():
    model = Patcher(5, loaded=5)
    assert fitting(15, Patcher(5, network=model.model), model) == 6


def check_models_of_the_run_stay():
    assert fitting(15, Patcher(5), along=[Patcher(3, loaded=3)]) == 4  # 6 of 7 GiB
    assert fitting(15, Patcher(5), along=[Patcher(3)]) == 4


def check_a_control_net_of_the_run_stays():
    class Control:
        def __init__(self, *models):
            self.models = list(models)

        def get_models(self):
            return self.models

        def inference_memory_requirements(self, dtype):
            return GIB

    model, network = Patcher(5), Patcher(3, loaded=3)
    with card(15, [model, network]):
        text = [[torch.zeros(1, 2, 3), {"control": Control(network)}]]
        assert rows(model, positive=text) == 3  # 4.5 of 6 GiB
        text = [[torch.zeros(1, 2, 3), {"control": None}]]
        assert rows(model, positive=text) == 6


def check_what_stays_on_the_card_is_not_free():
    """--highvram keeps diffusion models where they are, --gpu-only all models."""
    model = Patcher(5, home=CARD)
    others = Patcher(10, loaded=10, home=CARD), Patcher(4, loaded=4)
    assert fitting(24, model, *others, state=HIGH) == 5  # 7.5 of 9 GiB
    others = Patcher(10, home=CARD), Patcher(4, home=CARD)  # never loaded and there
    assert fitting(24, model, *others, state=HIGH) == 3


def check_high_vram_never_leaves_weights_behind():
    assert fitting(8, Patcher(12), state=HIGH) == 1


def check_what_is_reserved_stays_free():
    assert fitting(24, Patcher(5), reserve=4) == 9  # 13.5 of 15 GiB


def check_weights_that_are_paged_out_are_free():
    assert fitting(24, Patcher(5, loaded=5, dynamic=True)) == 15  # 22.5 of 24 GiB
    paged = Patcher(9, loaded=9, dynamic=True)
    assert fitting(24, Patcher(5, dynamic=True), paged) == 15
    assert fitting(24, Patcher(5), paged) == 12
    assert fitting(24, Patcher(5, dynamic=True), Patcher(9, loaded=9)) == 15
    assert fitting(24, Patcher(5, dynamic=True), reserve=4) == 13
    assert fitting(8, Patcher(12, dynamic=True), ratio=0.4) == 5


def check_a_model_that_does_not_fit_leaves_its_place_to_rows():
    for state in (NORMAL, LOW):
        assert fitting(8, Patcher(12), state=state) == 5  # 7.5 of 8 GiB
        assert fitting(8, Patcher(12, loaded=7), state=state) == 5
        assert fitting(8, Patcher(7), state=state) == 5  # it would fit, but beside no row
        assert fitting(8, Patcher(6), state=state) == 1  # beside one
    assert fitting(8, Patcher(12), Patcher(4, loaded=4)) == 5
    assert fitting(8, Patcher(12), reserve=2) == 3


def check_the_least_share_of_weights_is_comfyuis():
    assert fitting(8, Patcher(12), ratio=0.4) == 3  # 4.5 of 4.8 GiB
    assert fitting(8, Patcher(12, loaded=7), ratio=0.4) == 3


def check_without_weights_on_the_card_all_of_it_is_for_rows():
    assert fitting(8, Patcher(12), state=NO) == 5
    assert fitting(8, Patcher(5), state=NO) == 5
    assert fitting(8, Patcher(5), Patcher(4, loaded=4), state=NO) == 5


def check_unloading_frees_nothing_where_memory_is_shared():
    shared = management.VRAMState.SHARED
    other = Patcher(10, loaded=10, device=MPS)
    assert fitting(24, Patcher(5, device=MPS), other, state=shared) == 5  # 7.5 of 9 GiB
    assert fitting(8, Patcher(12, device=MPS), state=shared) == 1
    disabled = management.VRAMState.DISABLED
    other = Patcher(10, loaded=10, device=CPU)
    assert fitting(24, Patcher(5, device=CPU), other, state=disabled, reserve=4) == 5
    assert fitting(8, Patcher(12, device=CPU), state=NO) == 1


def check_a_row_has_a_side_or_two_and_what_is_referred_to():
    def count(free, cfg=1.0, reference=False, dynamic=True):
        network = Network(cell=1)
        network.reference = reference
        model = Patcher(0, device=CPU, dynamic=dynamic, network=network)
        model.size = 60
        with card(0, []):
            memory.total = free
            return rows(model, cfg=cfg)

    assert count(7.5 * ROWS + 1) == ROWS
    assert count(60) == 7  # eight take just as much as there is
    assert count(60 + 16, dynamic=False) == 2  # 60 are to be loaded
    assert count(60, dynamic=False) == 1
    assert count(60, cfg=2.0) == 3
    assert count(60, reference=True) == 3
    assert count(60, cfg=2.0, reference=True) == 1
