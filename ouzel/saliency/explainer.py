"""The one-pass engine: one forward for the whole batch, and as few backward passes as all its rows need."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from ouzel import models
from ouzel.checks import at_least
from ouzel.errors import FailedPrecondition, InvalidArgument, OuzelError
from ouzel.models.segmentation import background
from ouzel.precision_names import EXACT, Precision, check_precision
from ouzel.saliency.engine.answer import located
from ouzel.saliency.engine.asked import check_finite, check_input, for_row
from ouzel.saliency.engine.batch import Batch
from ouzel.saliency.engine.deviation import Deviation, measure
from ouzel.saliency.engine.forward import Forward
from ouzel.saliency.engine.graphs import Capturer, CudaCapturer, Graphs
from ouzel.saliency.engine.heads import Head, Heads
from ouzel.saliency.engine.prepare import Colours, Prepared, prepare
from ouzel.saliency.engine.work import MapRequest, SaliencyPlan, Work, mixes
from ouzel.saliency.method import Method
from ouzel.saliency.request import Saliency
from ouzel.saliency.results import Explanation
from ouzel.saliency.targets import Classes, expand
from ouzel.saliency.transfer import Transfer
from ouzel.task_names import SEGMENTATION

GRAPHS_SHARE = 4  # of the memory for further passes: what CUDA graphs may hold


class Explainer:
    """Predicts and explains with one network. Threads may share it.

    The explainer works on its own copy of the network: in eval mode, frozen, with BatchNorms folded, in the memory
    format that is faster on this machine. The preparation takes seconds. It happens at construction for a Model, and at
    the first call for a plain module, of whose input black is taken to be 0 and white 1 in every channel.

    Args:
        model: An `ouzel.models.Model`, or any `nn.Module` that maps (B, C, H, W) to logits (B, K), or to logits
            (B, K, H, W) of each pixel.
        memory_bytes: What methods of many passes (integrated gradients, noise, masks) may take at a time, 1 or more;
            None is a share of the device's memory.
        known_formats: A folder in which the faster memory format is remembered for other processes, by the network's
            layers, its input and the device.
        precision: "exact" is IEEE float32, whatever PyTorch's flags and the caller's autocast say; "tf32" and "bf16"
            are faster on a GPU, and deviate. See `ouzel.models.precision`, also for what other threads see meanwhile.
        graphs: Whether one or two images on a GPU are explained by CUDA graphs once the same was asked for several
            times, see `ouzel.saliency.engine.graphs`; elsewhere it changes nothing.

    Raises:
        InvalidArgument: `memory_bytes` is less than 1, or there is no such precision.
        FailedPrecondition: The network answers something else, or cannot be explained (quantized, spread over devices).

    Attributes:
        labels: Names of the classes; empty for a plain module.
        device: Where the network is.
        dtype: Of the network's parameters.
        precision: That it computes in.
        deviation: From exact arithmetic, measured on this device at the preparation; None for "exact", and before.
    """

    def __init__(
        self,
        model: nn.Module | models.Model,
        *,
        memory_bytes: int | None = None,
        known_formats: Path | None = None,
        precision: Precision = EXACT,
        graphs: bool = True,
    ) -> None:
        if memory_bytes is not None:
            at_least("memory_bytes", memory_bytes, 1)
        self.precision = check_precision("precision", precision)
        self.deviation: Deviation | None = None
        self._memory_bytes, self._known_formats = memory_bytes, known_formats
        self._preprocessing = None if isinstance(model, nn.Module) else model.preprocessing
        self._task = None if isinstance(model, nn.Module) else model.task
        self._network = model if isinstance(model, nn.Module) else model.network
        self.labels: tuple[str, ...] = () if isinstance(model, nn.Module) else model.labels
        parameter = next((p for p in self._network.parameters() if p.is_floating_point()), None)
        self.device = parameter.device if parameter is not None else torch.device("cpu")
        self.dtype = parameter.dtype if parameter is not None else torch.float32
        self._lock = threading.Lock()
        self._prepared: Prepared | None = None
        self._capturer: Capturer | None = CudaCapturer(self.device) if graphs and self.device.type == "cuda" else None
        self._graphs: Graphs | None = None
        self._taken: set[torch.Size] = set()  # shapes of inputs that went through
        if not isinstance(model, nn.Module):
            self.prepare(torch.rand(model.input_shape, generator=torch.Generator().manual_seed(0)))

    def prepare(self, example: Tensor) -> Prepared:
        """Freeze, fold and tune the explainer's copy of the network, once; later calls return what the first one made.

        Args:
            example: (C, H, W), any input that the network takes.

        Returns:
            The prepared network, with what its preparation has shown.

        Raises:
            FailedPrecondition: The network answers something else than logits.
        """
        with self._lock:
            if self._prepared is None:
                example = example.to(self.device, self.dtype)
                prepared = prepare(
                    self._network,
                    example,
                    colours=self._colours(len(example)),
                    memory_bytes=self._memory_bytes,
                    known_formats=self._known_formats,
                    precision=self.precision,
                    background=background(self.labels),
                )
                self._check_task(prepared)
                self.deviation = None if self.precision == EXACT else measure(prepared, example)
                if self._capturer is not None and not prepared.dense:  # whose regions a graph has no place for
                    self._graphs = Graphs(prepared, self._capturer, prepared.memory_bytes // GRAPHS_SHARE)
                self._prepared = prepared
            return self._prepared

    def _check_task(self, prepared: Prepared) -> None:
        """Raises FailedPrecondition for a Model whose network does something else than its task says."""
        if self._task is not None and (self._task == SEGMENTATION) != prepared.dense:
            what = "logits of each pixel" if prepared.dense else "logits of the image"
            raise FailedPrecondition(f"model: its task is {self._task}, and its network answers {what}", field="model")

    @property
    def uncaptured(self) -> str:
        """Why small batches are not answered by CUDA graphs although they could be; "" if nothing speaks against it."""
        return "" if self._graphs is None else self._graphs.given_up

    def _colours(self, channels: int) -> Colours:
        if self._preprocessing is None:
            return (0.0,) * channels, (1.0,) * channels
        pairs = list(zip(self._preprocessing.mean, self._preprocessing.std, strict=True))
        return tuple((0 - mean) / std for mean, std in pairs), tuple((1 - mean) / std for mean, std in pairs)

    def __call__(self, x: Tensor, requests: Sequence[Saliency]) -> Explanation:
        """Explain every row of a batch.

        Args:
            x: (B, C, H, W), finite, as the model takes it: normalised.
            requests: The maps of each row. A target may be a sequence with one entry per row.

        Returns:
            The logits, and one map per request over the whole batch, several for a Top target.

        Raises:
            InvalidArgument: The input or a request is wrong; the error's field names which.
            NotFound: A request names a layer or a method that does not exist.
            FailedPrecondition: A method does not fit the network.
        """
        check_input(x)
        transfer = Transfer()
        finite = transfer.take(x.isfinite().all())
        if not x.is_cuda:
            check_finite(finite)
        rows: list[Sequence[Saliency]] = [requests] * len(x)
        if any(isinstance(request.target, tuple) for request in requests):
            rows = [[for_row(request, row, len(x)) for request in requests] for row in range(len(x))]
        try:
            with models.computing(self.precision):  # once for all passes
                batch = self.forward(x, rows)
                return Explanation(batch.logits, batch.explain_alike(transfer))
        finally:  # of an x on a GPU it is known only now, without waiting for it; it explains any other error
            transfer.wait()
            check_finite(finite)

    def forward(
        self,
        x: Tensor,
        rows: Sequence[SaliencyPlan | Sequence[Saliency]],
        *,
        certain: bool = True,
        heads: Sequence[Head] | None = None,
    ) -> Batch:
        """Run the network on a batch whose rows may each ask for different maps; `Batch.explain` computes them.

        Args:
            x: (B, C, H, W) as the model takes it.
            rows: For each of the B rows its requests, or what `plan` made of them for inputs of this size.
            certain: Whether all maps will be asked for, so that they may be computed together with the prediction.
            heads: That answer the rows, of a network with a `SharedHead`; the plans are then made with them.

        Returns:
            The batch with its logits, ready to be explained.

        Raises:
            InvalidArgument: A request is wrong, or the network does not take an input of this size.
            OuzelError: As `plan` raises.
        """
        check_input(x)
        if len(rows) != len(x):
            raise InvalidArgument(f"rows: requests for {len(rows)} rows, x has {len(x)}", field="rows")
        with self._sizes_told(x):
            prepared = self.prepare(x[0])
        height, width = x.shape[2:]
        made: dict[tuple[int, int], SaliencyPlan] = {}  # rows may share their requests
        plans = []
        for row, head in zip(rows, [None] * len(rows) if heads is None else heads, strict=True):
            key = id(row), id(head)
            if key not in made:
                made[key] = row if isinstance(row, SaliencyPlan) else self.plan(row, height, width, head)
            plans.append(made[key])
        for plan in plans:
            if (plan.height, plan.width) != (height, width):
                raise InvalidArgument(
                    f"rows: a plan for {plan.height} x {plan.width} pixels, x has {height} x {width}", field="rows"
                )
        if certain and self._graphs is not None and heads is None and x.shape[1:] in self._taken:
            asked = [plan.maps for plan in plans]
            computed = None if mixes(asked) else self._graphs.compute(x.to(self.device, self.dtype), Work.of(asked))
            if computed is not None:
                return Batch(computed, plans, self.labels)
        specs = {spec for maps in {plan.maps for plan in plans} for one in maps for spec in one.method.gradient_specs()}
        with self._sizes_told(x):
            shared = None if heads is None else Heads.of(heads)
            forward = Forward(prepared, x.to(self.device, self.dtype), specs, shared)
        self._taken.add(x.shape[1:])
        return Batch(forward, plans, self.labels)

    @contextmanager
    def _sizes_told(self, x: Tensor) -> Iterator[None]:
        """What the network raises for an input of a size that it does not take becomes an InvalidArgument."""
        try:
            yield
        except models.REFUSALS as error:
            if x.shape[1:] in self._taken:  # then it is something else
                raise
            own = None if self._preprocessing is None else self._preprocessing.input_size
            network = models.own_copy(self._network, share=True)
            shape = (x.shape[1], x.shape[2], x.shape[3])
            raise models.wrong_size(error, network, shape, "x", own=own) from error

    def plan(self, requests: Sequence[Saliency], height: int, width: int, head: Head | None = None) -> SaliencyPlan:
        """Check one row's requests against the model; `forward` takes the plan as it is.

        Args:
            requests: What the row asks for.
            height: Of the input, in pixels.
            width: Of the input, in pixels.
            head: That answers, of a network that is shared.

        Returns:
            The maps with all defaults filled in, and the passes through the network that they cost.

        Raises:
            OuzelError: InvalidArgument, NotFound or FailedPrecondition, whose field names the request.
        """
        assert self._prepared is not None, "prepare() comes first"
        prepared, size = self._prepared, (height, width)
        known = Classes(prepared.classes, self.labels, prepared.dense, size)
        if head is not None:
            known = Classes(head.classes, head.labels)
        maps: list[MapRequest] = []
        for number, request in enumerate(requests):
            try:
                method = _bind(request.method, self._prepared)
                targets = expand(request.target, known)  # type: ignore[arg-type]
                method = method.sized(height, width)
            except OuzelError as error:
                raise located(error, number) from None
            maps += [MapRequest(method, target, request.reduction, number) for target in targets]
        shared = {(spec.rule, one.target) for one in maps for spec in one.method.gradient_specs()}
        passes = 1 + len(shared) + sum(one.method.cost(height, width) for one in maps)
        return SaliencyPlan(tuple(maps), height, width, passes)


def _bind(method: Method, prepared: Prepared) -> Method:
    """The method with the model's defaults, checked against the model."""
    method = method.bind(prepared.facts)
    for spec in method.gradient_specs():
        if spec.layer is not None:
            prepared.taps.check(spec.layer)
        if spec.rule != "plain" and prepared.scripted:
            raise FailedPrecondition(
                f"method: {method.name} cannot see the rectifiers inside a TorchScript module; serve the original "
                "nn.Module instead",
                field="method",
            )
    return method
