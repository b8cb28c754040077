"""Model archives (.mar): one zip file that TorchServe unpacks and that `load` reads as it is.

    MAR-INF/MANIFEST.json   what TorchServe wants to know
    model.json              the card: architecture, preprocessing, labels, digest of the weights
    saliency_handler.py     the adapter that TorchServe runs; a copy, the library itself is installed
    weights.safetensors

The same inputs give the same bytes: nothing is compressed (zlib's output varies by version), entries are sorted, and
time stamps and permissions are fixed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor, nn

from ouzel.durable_files import written
from ouzel.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from ouzel.handler_files import SALIENCY, handler_file
from ouzel.model_files import CARD, MANIFEST, ModelFiles
from ouzel.model_names import check_new_name, check_version
from ouzel.models import detection, segmentation
from ouzel.models import weights as weights_module
from ouzel.models.architectures import build, check_task_of, default_preprocessing, task_of
from ouzel.models.card import Card, parse
from ouzel.models.labels import read_labels
from ouzel.models.networks.dense import AUXILIARY
from ouzel.models.networks.sizes import check_size
from ouzel.models.preprocessing import Preprocessing
from ouzel.precision_names import EXACT, Precision, check_precision
from ouzel.task_names import DETECTION, SEGMENTATION, Task, check_task
from ouzel_protos.zips import DAMAGED

HANDLER, WEIGHTS = SALIENCY, "weights.safetensors"
_LIMITS = {MANIFEST: 2**20, CARD: 64 * 2**20, HANDLER: 2**20, WEIGHTS: 16 * 2**30}  # bytes


def create(
    name: str,
    arch: str,
    weights: str | Path,
    labels: str | Path | Sequence[str],
    store: str | Path,
    *,
    match: str = "name",
    preprocessing: Preprocessing | None = None,
    version: str = "1",
    precision: Precision = EXACT,
    task: Task | None = None,
) -> Path:
    """Write `<store>/<name>.mar` in one step; an archive of that name is replaced.

    Args:
        name: Of the model.
        arch: As of `build`; the number of classes is that of the labels.
        weights: A file that `weights.read` takes.
        labels: As of `read_labels`.
        store: The folder.
        match: "name" or "order", see `weights.match`.
        preprocessing: By default `default_preprocessing(arch, weights)`, also for weights that fit by order, which are
            likely to be the library's own under other names.
        version: Of the model.
        precision: What it is served in, one of PRECISIONS.
        task: What the model is for, one of TASKS; None is that of the architecture.

    Returns:
        The path of the archive.

    Raises:
        InvalidArgument: Names what does not fit.
        NotFound: There is no such file or architecture.
    """
    check_new_name(name)
    check_version(version)
    check_precision("precision", precision)
    if task is not None:
        check_task_of(arch, check_task("task", task))
    task = task_of(arch)
    if task == DETECTION and precision != EXACT:
        raise InvalidArgument(f"precision: {precision} is for others; detectors compute exactly", field="precision")
    check_untuned(name, ModelFiles(store))
    label_names = read_labels(labels)
    if preprocessing is None:
        preprocessing = default_preprocessing(arch, weights)
    state = weights_module.read(weights)
    if task == SEGMENTATION:
        segmentation.check_count(len(label_names), "labels")
        state = {name: tensor for name, tensor in state.items() if AUXILIARY not in name}
    network = build(arch, num_classes=len(label_names), in_channels=preprocessing.channels)
    detection.check_labels(label_names, network)
    if match == "name":
        state = weights_module.named_for(state, network)
    _check_classes(state, network, len(label_names))
    shape = (preprocessing.channels, *preprocessing.input_size)
    check_size(network, shape, "preprocessing.input_size", own=default_preprocessing(arch).input_size)
    card = Card(
        name=name,
        version=version,
        arch=arch,
        labels=label_names,
        preprocessing=preprocessing,
        precision=precision,
        task=task,
    )
    path = Path(store) / f"{name}.mar"
    return _write(card, weights_module.match(state, network, by=match), path, replace=True)


def write(card: Card, state: Mapping[str, Tensor], path: str | Path, *, replace: bool = True) -> Path:
    """Pack the tensors of `state`, by name, into an archive in one step, and return its path.

    The card's digest is that of the packed weights, whatever it was. The tensors may be on any device. Without
    `replace` an archive that is there raises AlreadyExists. Raises InvalidArgument for weights that do not fit the
    architecture or are not finite, and for a card that cannot be written.
    """
    check_new_name(card.name)
    check_version(card.version)
    return _write(card, _fitted(card, state), Path(path), replace=replace)


def digest_in_archive(card: Card, state: Mapping[str, Tensor]) -> str:
    """The digest that the weights of `state` have in an archive that `write` makes. Raises as `write`."""
    return digest_of(safetensors.save(dict(_fitted(card, state))))


def _fitted(card: Card, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    check_task_of(card.arch, card.task)
    network = build(card.arch, num_classes=len(card.labels), in_channels=card.preprocessing.channels)
    detection.check_labels(card.labels, network)
    return weights_module.match({name: tensor.cpu() for name, tensor in state.items()}, network)


def _write(card: Card, state: Mapping[str, Tensor], path: Path, *, replace: bool) -> Path:
    packed = safetensors.save(dict(state))
    card = dataclasses.replace(card, digest=digest_of(packed))
    entries = {
        MANIFEST: _manifest(card),
        CARD: card.to_json(),
        HANDLER: handler_file(HANDLER).read_bytes(),
        WEIGHTS: packed,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with written(path, replace=replace) as temporary:
            _write_zip(temporary, entries)
    except FileExistsError:
        raise AlreadyExists(f"there is a model archive {path} already", field="name") from None
    return path


def read_card(path: str | Path) -> tuple[Card, dict[str, Any]]:
    """The card of an archive, or of a folder with its extracted files; the weights stay unread.

    Raises NotFound or FailedPrecondition.
    """
    with _named(path):
        return parse(_read(Path(path), CARD))


def read(path: str | Path) -> tuple[Card, dict[str, Any], dict[str, Tensor]]:
    """Card, its mapping and the tensors, once their digest has been seen to be the card's. Raises as `read_card`."""
    with _named(path):
        card, values = parse(_read(Path(path), CARD))
        packed = _read(Path(path), WEIGHTS)
        if digest_of(packed) != card.digest:
            raise FailedPrecondition(f"{WEIGHTS} is not what the card describes (its digest differs): a damaged file")
        try:
            return card, values, safetensors.load(packed)
        except SafetensorError as error:
            raise FailedPrecondition(f"{WEIGHTS} is not a safetensors file ({error})") from error


def weights_in(path: Path) -> tuple[int, int]:
    """Where the header of the weights begins in an archive, and how many bytes the weights have.

    Raises FailedPrecondition if the archive does not hold exactly what it should, and BadZipFile.
    """
    with zipfile.ZipFile(path) as file:
        _check_entries(file)
        info = file.getinfo(WEIGHTS)
        return info.header_offset, info.file_size


def digest_of(packed: bytes) -> str:
    """The digest of packed weights, "sha256:<hex>"."""
    return f"sha256:{hashlib.sha256(packed).hexdigest()}"


def _manifest(card: Card) -> bytes:
    content = {
        "runtime": "python",
        "model": {
            "modelName": card.name,
            "modelVersion": card.version,
            "handler": HANDLER,
            "serializedFile": WEIGHTS,
        },
    }
    return json.dumps(content, indent=2).encode() + b"\n"


def check_untuned(name: str, store: ModelFiles) -> None:
    """Refuses the name of a tuned model: it belongs to the operator or to the owner of a tuned one, never to both.

    Args:
        name: Of a new model of the operator.
        store: Where it is to be.

    Raises:
        AlreadyExists: A tuned model has it.
    """
    if tuned := next((file for file in store.of(name) if "@" in file.path.stem), None):
        raise AlreadyExists(f"name: {name!r} is that of a tuned model, {tuned.path}", field="name")


def _check_classes(state: dict[str, Tensor], network: nn.Module, labels: int) -> None:
    """A wrong list of labels would show as a wrong shape of the last layer: say it in the user's words."""
    last_name, last = list(network.state_dict().items())[-1]
    theirs = state.get(last_name)
    if theirs is not None and last.shape == (labels,) and theirs.ndim == 1 and len(theirs) != labels:
        advice = "; give one label, that of the class whose probability is the sigmoid" if len(theirs) == 1 else ""
        raise InvalidArgument(
            f"labels: {labels} of them, but the weights tell {len(theirs)} classes apart{advice}", field="labels"
        )


def _write_zip(path: Path, entries: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(entries):
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = 3, 0o644 << 16  # Unix, a plain readable file
            archive.writestr(info, entries[name])


@contextmanager
def _named(path: str | Path) -> Iterator[None]:
    """Say which archive an error is about."""
    try:
        yield
    except FailedPrecondition as error:
        raise FailedPrecondition(f"{path}: {error}", field=error.field) from error


def _read(path: Path, entry: str) -> bytes:
    if path.is_dir():
        return _read_file(path / entry, _LIMITS[entry])
    if not path.is_file():
        raise NotFound(f"there is no model archive {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_entries(archive)
            return archive.read(entry)
    except DAMAGED as error:
        raise FailedPrecondition(f"is not a sound zip file ({error})") from error


def _read_file(path: Path, limit: int) -> bytes:
    if not path.is_file():
        raise FailedPrecondition(f"{path.name} is missing")
    if path.stat().st_size > limit:
        raise FailedPrecondition(f"{path.name} has more than {limit} bytes")
    return path.read_bytes()


def _check_entries(archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    names = sorted(info.filename for info in members)
    if names != sorted(_LIMITS):
        raise FailedPrecondition(
            f"holds {', '.join(names)[:200] or 'nothing'}, not exactly {', '.join(sorted(_LIMITS))}"
        )
    for info in members:
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > _LIMITS[info.filename]:
            raise FailedPrecondition(f"{info.filename} is compressed or has more than {_LIMITS[info.filename]} bytes")
