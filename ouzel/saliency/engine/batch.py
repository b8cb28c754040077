"""A batch between its prediction and its explanations."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ouzel.errors import OuzelError
from ouzel.saliency.engine.answer import Answer
from ouzel.saliency.engine.chosen import Chosen
from ouzel.saliency.engine.compute import Computed, classes_of, compute
from ouzel.saliency.engine.forward import Forward, Over
from ouzel.saliency.engine.work import MapRequest, SaliencyPlan, Work, mixes
from ouzel.saliency.results import SaliencyMap
from ouzel.saliency.targets import Rank, ResolvedTarget, best
from ouzel.saliency.transfer import Transfer, sent


class Batch:
    """A batch that has been predicted and can be explained.

    Attributes:
        logits: (B, K), or (B, K, H, W) of a network that answers each pixel; detached.
    """

    def __init__(self, begun: Forward | Computed, plans: Sequence[SaliencyPlan], labels: Sequence[str] = ()) -> None:
        self._labels = labels
        self._begun = begun  # the forward pass, or all that its plans ask for
        self._plans = plans
        self.logits = begun.logits

    def explain(
        self,
        keep: Sequence[bool] | None = None,
        over: Sequence[Over | None] | None = None,
        transfer: Transfer | None = None,
    ) -> list[list[SaliencyMap] | OuzelError]:
        """Compute the maps of all rows. It can be called once.

        Args:
            keep: Rows whose maps are wanted after all, now that the prediction is known; the others get none.
            over: For each row, tells when asked whether its caller has stopped waiting; None waits for ever. Methods of
                many passes ask before each, stop when nobody waits any more, and answer DeadlineExceeded.
            transfer: Brings the maps to the host, and is waited for, with whatever else it has taken; None leaves them
                on the device.

        Returns:
            For each row its maps in the order asked for, or the error that stands in their way, such as logits or a map
            that are not finite. Maps of one method are parts of one tensor.
        """
        answer = self._answer(keep, over, transfer or Transfer(), maps_too=transfer is not None)
        return [answer.of_row(row) for row in range(len(self._plans))]

    def explain_alike(self, transfer: Transfer) -> tuple[SaliencyMap, ...]:
        """The same for rows that ask for as many maps each: each over the whole batch. Raises the first row's error."""
        answer = self._answer(None, None, transfer, maps_too=False)
        return answer.together()

    def _answer(
        self,
        keep: Sequence[bool] | None,
        over: Sequence[Over | None] | None,
        transfer: Transfer,
        *,
        maps_too: bool,
    ) -> Answer:
        rows = [plan.maps if keep is None or keep[row] else () for row, plan in enumerate(self._plans)]
        begun = self._begun
        del self._begun
        if isinstance(begun, Computed):
            work, computed = Work.of([plan.maps for plan in self._plans]), begun
        else:
            if self.logits.ndim == 2 and mixes(rows):  # a look at the prediction saves a pass where both name one class
                rows = _resolved(rows, self.logits)
            work = Work.of(rows)
            classes = sent(classes_of(work), self.logits.device)
            computed = compute(begun, work, classes, Chosen(self.logits.device), over)
        return Answer(rows, work, computed, transfer, maps_too=maps_too, labels=self._labels)


def _resolved(rows: Sequence[Sequence[MapRequest]], logits: Tensor) -> list[tuple[MapRequest, ...]]:
    """The same requests, whose classes are all known."""
    count = max(one.target.place + 1 for maps in rows for one in maps if isinstance(one.target, Rank))
    ranking = best(logits, count).tolist()
    return [
        tuple(
            MapRequest(one.method, ResolvedTarget(ranking[row][one.target.place]), one.reduction, one.request)
            if isinstance(one.target, Rank)
            else one
            for one in maps
        )
        for row, maps in enumerate(rows)
    ]
