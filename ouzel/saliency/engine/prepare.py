"""What is done once per model so that every call is fast: freeze, fold, pick the memory format."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ouzel import models
from ouzel.errors import FailedPrecondition
from ouzel.precision_names import EXACT, Precision
from ouzel.saliency.engine.folding import fold
from ouzel.saliency.engine.layouts import Layouts
from ouzel.saliency.engine.memory_format import faster_format
from ouzel.saliency.engine.taps import Taps
from ouzel.saliency.method import ModelFacts, Rule

Colours = tuple[tuple[float, ...], tuple[float, ...]]  # black, white

# What the process's container may take, for version 2 and version 1 of control groups.
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
# More rows in one pass are slower on a CPU, whose caches they leave, and no faster on a GPU.
MOST_ROWS = {"cpu": 16, "cuda": 64}
BACKBONES = ("backbone", "encoder")  # what segmentation networks call it


@dataclass(frozen=True)
class Prepared:
    """A network ready to be explained: frozen, folded, tapped.

    scripted: whether it has parts in TorchScript. row_bytes: what one row's graph keeps until its backward pass.
    memory_bytes, most_rows: what the further passes of a method may take, each. precision: what passes are computed in.
    dense: whether the network answers each pixel. background: of these classes the one that stands for all others.
    shared: of a detector, whose answer is dense, the part in which methods look at layers.
    """

    network: nn.Module
    memory_format: torch.memory_format
    taps: Taps
    layouts: Layouts
    classes: int
    scripted: bool
    facts: ModelFacts
    row_bytes: int
    memory_bytes: int
    most_rows: int
    precision: Precision
    dense: bool = False
    background: int | None = None
    shared: str = ""

    def rows_per_pass(self, rules: Collection[Rule]) -> int:
        """How many rows fit into the memory granted, at least 1 and at most what is quick.

        rules: of the backward passes that follow; none is a forward pass alone.
        """
        # Without a graph only the tensors around the current layer are alive; a quarter of all is a safe guess. The
        # rule "smooth" keeps a byte more for each value of an activation.
        row_bytes = self.row_bytes if rules else self.row_bytes // 4
        row_bytes += row_bytes // 4 if "smooth" in rules else 0
        return max(1, min(self.memory_bytes // max(row_bytes, 1), self.most_rows))


@torch.inference_mode(False)
@models.computing()
def prepare(
    network: nn.Module,
    example: Tensor,
    *,
    colours: Colours,
    memory_bytes: int | None = None,
    rows: int = 4,
    known_formats: Path | None = None,
    precision: Precision = EXACT,
    background: int | None = None,
    shared: str = "",
) -> Prepared:
    """Prepare a private copy of the network; the network itself is left as it is.

    example: (C, H, W) of the dtype and device that the network takes. colours: of black and white pixels, (C,) each.
    memory_bytes: for the further passes of a method; None is a share of the device's memory. rows: batch size at which
    formats are compared. known_formats: a folder in which the faster format is remembered. precision: what the passes
    are to be computed in; what is judged here is judged exactly. background, shared: see
    `Prepared`.
    Raises FailedPrecondition for a network that is neither a classifier nor one that answers each pixel.
    """
    example = example[None].detach().clone()
    ready = models.own_copy(network)
    with torch.no_grad():
        logits = ready(example.clone())
    dense = bool(shared) or _is_dense(logits, example)
    folded = fold(ready, example)
    ready = folded.network
    scripted = any(isinstance(m, torch.jit.ScriptModule) for m in ready.modules())
    cam_layer = "" if scripted else _cam_layer(ready, example, dense=dense, shared=shared)
    row_bytes = _graph_bytes(ready, example)
    ready, memory_format = faster_format(ready, example.expand(rows, -1, -1, -1), known_formats, precision)
    taps = Taps(ready, folded.affines)
    return Prepared(
        network=ready,
        memory_format=memory_format,
        taps=taps,
        layouts=Layouts(ready, taps, memory_format),
        classes=logits.shape[1],
        scripted=scripted,
        facts=ModelFacts(cam_layer, *colours, unfolded=folded.given_up),
        row_bytes=row_bytes,
        memory_bytes=memory_bytes or memory_share(example.device),
        most_rows=MOST_ROWS.get(example.device.type, 16),
        precision=precision,
        dense=dense,
        background=background,
        shared=shared,
    )


def _is_dense(logits: object, example: Tensor) -> bool:
    """Whether there are logits for each pixel. Raises FailedPrecondition for what is no network's answer here."""
    if isinstance(logits, Tensor) and len(logits) == 1:
        if logits.ndim == 2:
            return False
        if logits.ndim == 4 and logits.shape[1] > 1 and logits.shape[2:] == example.shape[2:]:
            return True
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
    height, width = example.shape[2:]
    raise FailedPrecondition(
        f"model: it answers {shape} for one image; a classifier answers (1, classes), a segmentation network of two "
        f"classes or more (1, classes, {height}, {width}), the size of its input",
        field="model",
    )


def _cam_layer(network: nn.Module, example: Tensor, *, dense: bool, shared: str) -> str:
    """Of a network that answers each pixel it is in the backbone: what follows has the form of the answer."""
    children = dict(network.named_children())
    part = shared or (next((name for name in BACKBONES if name in children), None) if dense else "")
    if part is None:
        return ""
    try:
        return models.cam_layer(network, example.clone(), part)
    except FailedPrecondition:
        return ""


@torch.enable_grad()
def _graph_bytes(network: nn.Module, example: Tensor) -> int:
    """What a forward pass of one row saves for its backward pass, each storage counted once, weights left out."""
    weights = {tensor.untyped_storage().data_ptr() for tensor in network.parameters()}
    sizes: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        kept = network(example.clone().requires_grad_() * 1)
    del kept
    return sum(sizes.values())


def memory_share(device: torch.device) -> int:
    """A quarter of the GPU's free memory, or an eighth of the machine's, or container's, which others need too."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // 4
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in _CGROUP_LIMITS:
        if limit.is_file() and (text := limit.read_text().strip()).isdecimal():  # else "max"
            memory = min(memory, int(text))
    return memory // 8
