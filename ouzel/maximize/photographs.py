"""Which of the photographs that a run is given are kept, and for what. They may be many: they are read once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from ouzel.errors import InvalidArgument
from ouzel.maximize.nodes import ClassLogit
from ouzel.maximize.path import FEWEST
from ouzel_protos.text import nfc, shown

OF_A_CLASS = 16
OF_OTHERS = 32


@dataclass
class Photographs:
    """The first few of each class that is sought, of other classes, and of those without one.

    Attributes:
        wanted: Labels of the classes that are sought.
        labels: By the name of the photograph; those that are absent have none.
        classes: By label, (C, H, W) in [0, 1].
        others: Labels and images of other classes; no class gives more than one before each has given one.
        unlabelled: Images without a label.
    """

    wanted: frozenset[str]
    labels: Mapping[str, str] = field(default_factory=dict)
    classes: dict[str, list[Tensor]] = field(default_factory=dict)
    others: list[tuple[str, Tensor]] = field(default_factory=list)
    unlabelled: list[Tensor] = field(default_factory=list)
    _seen: dict[str, int] = field(default_factory=dict)

    def keep(self, data: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """Hands on names and images, and keeps some of them."""
        for name, image in data:
            self._see(nfc(self.labels.get(name, "")), image)
            yield name, image

    def of(self, label: str) -> Sequence[Tensor]:
        """Those of a class, or else those of all: what images of the class should be like."""
        return self.classes.get(nfc(label)) or self.all()

    def all(self) -> Sequence[Tensor]:
        """A few of all that are kept."""
        every = [*self.unlabelled, *(image for one in self.classes.values() for image in one)]
        return [*every, *(image for _, image in self.others)][:OF_A_CLASS]

    def pair(self, label: str) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Those of a class and those of other classes. Raises InvalidArgument if there are too few."""
        same = self.classes.get(nfc(label), [])
        others = [image for other, image in self.others if other != nfc(label)]
        others += [image for other, images in self.classes.items() if other != nfc(label) for image in images]
        if len(same) < FEWEST or not others:
            raise InvalidArgument(
                f"path: {len(same)} photographs of {shown(label, 80)} and {len(others)} of other classes; at least "
                f"{FEWEST} and 1 are needed, in folders named by their class",
                field="path",
            )
        return same, others[:OF_OTHERS]

    def _see(self, label: str, image: Tensor) -> None:
        if not label:
            if len(self.unlabelled) < OF_A_CLASS:
                self.unlabelled.append(image)
        elif label in self.wanted:
            kept = self.classes.setdefault(label, [])
            if len(kept) < OF_A_CLASS:
                kept.append(image)
        else:
            self._seen[label] = self._seen.get(label, 0) + 1
            if len(self.others) < OF_OTHERS:
                self.others.append((label, image))
            elif self._seen[label] == 1:  # a class that is new takes the place of one of several
                labels = [each for each, _ in self.others]
                spare = next((i for i in reversed(range(OF_OTHERS)) if labels.count(labels[i]) > 1), None)
                if spare is not None:
                    self.others[spare] = (label, image)


def label_of(node: object, labels: Sequence[str], title: str) -> str:
    """By what photographs of a node's class are known: its label, or its index where the model has no labels."""
    if not isinstance(node, ClassLogit):
        return ""
    return title if labels else str(node.target)
