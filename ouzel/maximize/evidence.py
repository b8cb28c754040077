"""What else is known of the images that were found: from photographs, from a second model, from the path they take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn

from ouzel import models
from ouzel.errors import InvalidArgument
from ouzel.maximize.independent import Judge
from ouzel.maximize.inputs import Inputs
from ouzel.maximize.nodes import ClassLogit, Node, Readout
from ouzel.maximize.path import NetworkPath, Paths, stages
from ouzel.maximize.photographs import Photographs, label_of
from ouzel.maximize.results import Visualization
from ouzel.maximize.search import Ranking, search
from ouzel_protos.text import nfc


class Evidence:
    """Checks all that it needs when it is made, before the first step.

    Args:
        model: That images are sought for.
        targets: The nodes.
        inputs: Of the model.
        readouts: Of the nodes.
        data: Names and images of photographs, (C, H, W) in [0, 1]; read once.
        labels: Of the photographs, by name.
        judge: The second model.
        path: Whether paths are compared.

    Attributes:
        photographs: What is kept of the data.

    Raises:
        InvalidArgument: Names what does not fit, or is missing.
    """

    def __init__(
        self,
        model: models.Model | nn.Module,
        targets: Sequence[Node],
        inputs: Inputs,
        readouts: Sequence[Readout],
        *,
        data: Iterable[tuple[str, Tensor]] | None,
        labels: Mapping[str, str],
        judge: models.Model | None,
        path: bool,
    ) -> None:
        self._inputs, self._targets = inputs, targets
        self._judge = None if judge is None else Judge(model, judge, targets)
        self._labels = [label_of(node, inputs.labels, each.title) for node, each in zip(targets, readouts, strict=True)]
        self._path = path
        if path and data is None:
            raise InvalidArgument("path: needs photographs (data) to compare with", field="path")
        if path and not any(isinstance(node, ClassLogit) for node in targets):
            raise InvalidArgument("path: no target is a class; photographs have no others", field="path")
        self.photographs = Photographs(frozenset(nfc(label) for label in self._labels if label), labels)
        self._rankings: tuple[Ranking, ...] = ()
        if data is not None:
            self._rankings = search(model, targets, self.photographs.keep(data), top_k=1)
        if path:
            self._check_path()

    def of_nodes(self) -> list[list[Tensor]]:
        """For each node its photographs, as the network takes them."""
        known: dict[int, Tensor] = {}  # one tensor for one photograph, by which it is known again

        def normalised(image: Tensor) -> Tensor:
            if id(image) not in known:
                known[id(image)] = self._inputs.normalised(image[None])[0]
            return known[id(image)]

        return [[normalised(image) for image in self.photographs.of(label)] for label in self._labels]

    def added(self, visualizations: Sequence[Visualization], copies: int) -> tuple[Visualization, ...]:
        """The visualizations with what is known of them besides. copies: for each node."""
        paths = self._paths(visualizations, copies) if self._path else {}
        return tuple(
            replace(
                one,
                best_of_data=self._rankings[row // copies].hits[0] if self._rankings else None,
                independent=self._judge.score(row // copies, one.image) if self._judge else None,
                path=paths.get(row),
            )
            for row, one in enumerate(visualizations)
        )

    def _check_path(self) -> None:
        for label in filter(None, self._labels):
            same, _ = self.photographs.pair(label)
            if same[0].shape != self._inputs.shape:
                seen, sought = tuple(same[0].shape[1:]), self._inputs.shape[1:]
                raise InvalidArgument(
                    f"path: the photographs have {seen} pixels, the images {sought}; they must be of one size",
                    field="path",
                )

    def _paths(self, visualizations: Sequence[Visualization], copies: int) -> dict[int, NetworkPath]:
        compared = Paths(self._inputs.network, stages(self._inputs.network, self._inputs.example))
        found: dict[int, NetworkPath] = {}
        for number, label in enumerate(self._labels):
            if not label:
                continue
            rows = range(number * copies, (number + 1) * copies)
            same, others = self.photographs.pair(label)
            groups = [[visualizations[row].image for row in rows], same, others]
            images, *photographs = ([self._inputs.normalised(one[None])[0] for one in group] for group in groups)
            found.update(zip(rows, compared.compare(images, *photographs), strict=True))
        return found
