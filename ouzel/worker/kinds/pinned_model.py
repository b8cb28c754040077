"""The model of a job: the same when the job runs as when it was submitted.

A name can be given to another model while a job waits. The spec therefore carries the digest of the weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ouzel.errors import FailedPrecondition, InvalidArgument, NotFound
from ouzel.model_files import ModelFile, ModelFiles

if TYPE_CHECKING:
    from ouzel.models import Model as LoadedModel
    from ouzel.worker.kinds.context import JobContext


def check_digest(reference: str, digest: str, expected: str, field: str) -> None:
    """Refuses a model whose weights are not those that the caller expects.

    Args:
        reference: The model, as "NAME" or "NAME@VERSION".
        digest: Of the weights that it has.
        expected: Of the weights that it must have; "" allows any.
        field: The field of the spec that holds `expected`.

    Raises:
        FailedPrecondition: The digests differ.
    """
    if expected not in ("", digest):
        raise FailedPrecondition(
            f"{field}: {reference!r:.80} has the weights {digest}, not {expected:.80}", field=field
        )


def find(files: ModelFiles, reference: str, digest: str, owner: str, field: str = "model") -> ModelFile:
    """The archive of a job's model, when the job starts to run.

    If another version has become the default of the name meanwhile, the version that was checked is still taken.

    Args:
        files: The model store.
        reference: The model, as "NAME" or "NAME@VERSION".
        digest: Of the weights that it had when the job was submitted; "" allows any.
        owner: Owner of the job.
        field: Of the spec, that names the model.

    Raises:
        NotFound: There is no such model any more, or it belongs to another owner by now.
        FailedPrecondition: The model has other weights by now.
    """
    try:
        file = files.file(reference)
    except (NotFound, InvalidArgument):
        file = None
    if file is None or not file.seen_by(owner):
        raise NotFound(f"{field}: no model {reference!r:.80} any more", field=field)
    if digest in ("", file.digest) or file.error:  # loading a damaged archive says what is wrong
        return file
    if "@" not in reference:
        for other in files.of(file.name):
            if other.digest == digest and other.seen_by(owner):
                return other
    raise _changed(reference, file.digest, digest, field)


def load(context: JobContext, reference: str, digest: str, field: str = "model") -> LoadedModel:
    """Loads what `find` finds, on the GPU if there is one. Raises OuzelError."""
    import torch

    from ouzel import models

    file = find(ModelFiles(*context.environment.model_store), reference, digest, context.owner, field)
    model = models.load(file.path, "cuda" if torch.cuda.is_available() else "cpu")
    if digest not in ("", model.digest):  # replaced a moment ago
        raise _changed(reference, model.digest, digest, field)
    return model


def _changed(reference: str, digest: str, expected: str, field: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"{field}: {reference!r:.80} has the weights {digest}, not {expected:.80} as when the job was submitted",
        field=field,
    )
