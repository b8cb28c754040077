"""The models of the process that audits: a few stay in memory, each prepared once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import torch

from ouzel import models
from ouzel.errors import NotFound, Unavailable
from ouzel.precision_names import EXACT
from ouzel.saliency import Explainer
from ouzel.task_names import CLASSIFICATION
from ouzel.worker.auditing.task import Archive


@dataclass(frozen=True)
class Loaded:
    """A model, and its explainer, whose prepared network answers and explains."""

    model: models.Model
    explainer: Explainer


class KnownModels:
    """Loads models, and keeps those that were used last.

    Args:
        most: How many are kept.
        formats: Folder in which the faster memory formats are remembered.
        turn: Held while a model is loaded; everything that computes holds it.
    """

    def __init__(self, most: int, formats: Path, turn: threading.Lock) -> None:
        self._most, self._formats, self._turn = most, formats, turn
        self._loaded: OrderedDict[Archive, Loaded] = OrderedDict()

    def get(self, archive: Archive, field: str) -> Loaded:
        """A model, loaded and prepared.

        Args:
            archive: Where it is.
            field: Of the request, for errors.

        Raises:
            NotFound: It was removed just now.
            Unavailable: It was replaced just now.
            OuzelError: It is damaged, no classifier, or takes no images.
        """
        with self._turn:
            if archive not in self._loaded:
                while len(self._loaded) >= self._most:
                    self._loaded.popitem(last=False)
                self._loaded[archive] = self._load(archive, field)
            self._loaded.move_to_end(archive)
            return self._loaded[archive]

    def _load(self, archive: Archive, field: str) -> Loaded:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            model = models.load(archive.path, device)
        except NotFound:
            raise NotFound(f"{field}: it was removed just now", field=field) from None
        if model.digest != archive.digest:
            raise Unavailable(f"{field}: {model.name!r} was replaced just now; try again", field=field)
        model.need(CLASSIFICATION, "audits", field)
        model.preprocessing.check_takes_images(field)
        return Loaded(model, Explainer(model, known_formats=self._formats, precision=EXACT))
