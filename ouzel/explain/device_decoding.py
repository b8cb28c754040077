"""The rows of a batch whose images are decoded together, on the device."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ouzel import images
from ouzel.errors import OuzelError
from ouzel.explain.faults import internal, raise_if_fatal
from ouzel.explain.reading import Row
from ouzel.explain.stages import Stages

logger = logging.getLogger(__name__)


def decoded(rows: Sequence[Row], stages: Stages) -> list[Row]:
    """Gives rows that came without pixels theirs.

    What the device cannot decode is decoded by processors, whose errors are those of single rows.

    Args:
        rows: Read without error; their models share an explainer.
        stages: Are told the time.

    Returns:
        The rows that have pixels; the others have an error.
    """
    coded = [row for row in rows if row.coded is not None]
    if not coded:
        return list(rows)
    decoder, preprocessing = coded[0].served.decoder, coded[0].served.model.preprocessing
    assert decoder is not None  # else nothing would have been left to it
    assert all(row.served.model.preprocessing == preprocessing for row in coded)  # models of a pool have no decoder
    try:
        pixels = decoder.pixels([row.coded for row in coded if row.coded is not None], preprocessing)
    except Exception as error:  # noqa: BLE001
        raise_if_fatal(error)
        logger.warning("the device does not decode a batch of %d images, processors do: %s", len(coded), error)
        for row in coded:
            _by_processor(row)
    else:
        for row, own in zip(coded, pixels, strict=True):
            row.pixels = own
            assert row.view is not None
            row.view.decoded_on_device = row.reply.envelope.view.decoded_on_device = True
    stages.lap("decode")
    return [row for row in rows if row.error is None]


def _by_processor(row: Row) -> None:
    preprocessing = row.served.model.preprocessing
    try:
        assert row.coded is not None
        row.pixels = preprocessing.pixels(images.decode(row.coded, smallest=preprocessing.resize))
    except OuzelError as error:
        row.error = error
    except Exception as error:  # noqa: BLE001 - a bug in reading one row is no reason to fail the others
        row.error = internal(error)
