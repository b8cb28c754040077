"""How a detector is learnt."""

from __future__ import annotations

from dataclasses import dataclass

from ouzel.checks import within


@dataclass(frozen=True)
class DetectOptions:
    """How a detector is learnt: first what is new, on frozen features, then all layers.

    Attributes:
        frozen_epochs: Of the new layers alone, 0 to 1000.
        epochs: Of all layers, 0 to 1000; with 0 the features stay as they are.
        head_rate: Learning rate of the new layers, 1e-6 to 1.
        learning_rate: Of all layers in the second stage; that of the features is `spread` times smaller.
        spread: 1 to 1000.
        batch_size: Images of a step, 1 to 256.
        weight_decay: 0 to 1.
        flip: Whether images are mirrored at random.
        held_out: Share of the images that is not learnt from, above 0 and below 1.
        size: Pixels along each edge of the input, 64 to 1024; 0 is the architecture's.

    Raises:
        InvalidArgument: A value is out of range.
    """

    frozen_epochs: int = 10
    epochs: int = 20
    head_rate: float = 4e-3
    learning_rate: float = 1e-3
    spread: float = 10.0
    batch_size: int = 8
    weight_decay: float = 1e-4
    flip: bool = True
    held_out: float = 0.2
    size: int = 0

    def __post_init__(self) -> None:
        for name, least, most in (
            ("frozen_epochs", 0, 1000),
            ("epochs", 0, 1000),
            ("head_rate", 1e-6, 1),
            ("learning_rate", 1e-6, 1),
            ("spread", 1, 1000),
            ("batch_size", 1, 256),
            ("weight_decay", 0, 1),
            ("held_out", 0.01, 0.9),
        ):
            within(f"parameters.{name}", getattr(self, name), least, most)
        within("parameters.epochs + frozen_epochs", self.epochs + self.frozen_epochs, 1, 2000)
        if self.size:
            within("parameters.size", self.size, 64, 1024)
