"""The output of `ouzel explain`: tables, JSON and files."""

from __future__ import annotations

import itertools
import json
import time
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeAlias

import click
import numpy as np

from ouzel_client._transport import config
from ouzel_client._types.detection import Detections
from ouzel_client._types.explanation import Explanation, SaliencyMap
from ouzel_client._types.model_info import ModelInfo
from ouzel_client._types.regions import Box
from ouzel_client._types.segmentation import Segmentation
from ouzel_client.errors import ConfigurationError, OuzelError
from ouzel_client.terminal import Column, print_table
from ouzel_protos import local

_PATIENCE = 2.0  # s
_COLUMNS = (
    Column("image", shrinks=1),
    Column("label", shrinks=2),
    Column("probability", right=True),
    Column("ms", right=True),
)
_MAPS = (
    Column("image", shrinks=1),
    Column("method"),
    Column("of", shrinks=2),
    Column("minimum", right=True),
    Column("maximum", right=True),
)
# An image, what came back, and the files that were written.
Row: TypeAlias = tuple[Path, Explanation | OuzelError, list[Path]]


def only_model() -> str:
    """The one model that the local services serve. Raises ConfigurationError if that is not clear."""
    serving = local.read_serving()
    served = _served(serving) if serving else []
    if len(served) == 1:
        return served[0]
    if served:
        known = f"; served are {', '.join(served)}"
    elif serving:
        known = "; the services of this machine serve no model (`ouzel models load`)"
    else:
        known = f"; {config.coming('torchserve') or 'no services of this machine are running (`ouzel up`)'}"
    raise ConfigurationError(f"which model? give --model NAME, or set OUZEL_MODEL{known}")


def _served(serving: local.Serving) -> list[str]:
    """The models that are served now: jobs add models to running services after these have recorded theirs."""
    try:
        token = local.token(Path(serving["key_file"]), "management")
        request = urllib.request.Request(
            f"{serving['management']}/models?limit=1000", headers={"Authorization": f"Bearer {token}"}
        )
        with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:
            return sorted(each["modelName"] for each in json.load(answer)["models"])
    except (OSError, ValueError, KeyError):
        return serving["models"]


def first(result: Explanation | OuzelError) -> Explanation | OuzelError:
    """The result with its best class alone; of a segmentation model, which has none, as it is."""
    if isinstance(result, OuzelError) or result.segmentation is not None or result.detected is not None:
        return result
    parts: dict[str, Any] = {name: getattr(result, name)[:1] for name in ("labels", "indices", "scores", "logits")}
    return replace(result, **parts)


def stems(images: Sequence[Path]) -> list[str]:
    """Names for the files of each image: its stem, with a number where that is taken (images of several folders)."""
    names: list[str] = []
    for path in images:
        candidates = itertools.chain([path.stem], (f"{path.stem}-{number}" for number in itertools.count(2)))
        names.append(next(name for name in candidates if name not in names))
    return names


def write(result: Explanation, out: Path, stem: str) -> list[Path]:
    """Write <stem>.<method>.png per map, <stem>.npz with all of them, and a proof; their paths. Raises OSError."""
    out.mkdir(parents=True, exist_ok=True)
    names = list(_map_names(result.saliency))
    written = []
    for name, one in zip(names, result.saliency, strict=True):
        written.append(out / f"{stem}.{name}.png")
        one.overlay().save(written[-1])
    found = result.segmentation
    if found is not None:
        written.append(out / f"{stem}.classes.png")
        found.overlay().save(written[-1])
    if result.detected is not None:
        written.append(out / f"{stem}.boxes.png")
        result.detected.overlay().save(written[-1])
    written.append(out / f"{stem}.npz")
    arrays: dict[str, Any] = {f"saliency/{n}": one.array for n, one in zip(names, result.saliency, strict=True)}
    if found is not None:
        arrays |= {"label_map": found.label_map, "areas": np.array([each.area for each in found.classes])}
        arrays["confidences"] = np.array([each.confidence for each in found.classes])
    if result.detected is not None:
        boxes = [(one.box.left, one.box.top, one.box.right, one.box.bottom) for one in result.detected]
        arrays["boxes"] = np.array(boxes, np.float64).reshape(-1, 4)
    np.savez_compressed(
        written[-1],
        allow_pickle=False,
        labels=np.array(_labels(result)),
        indices=_indices(result),
        scores=result.scores if result.detected is None else np.array([one.score for one in result.detected]),
        logits=result.logits,
        **arrays,
    )
    for name, content in (result.ledger.files() if result.ledger else {}).items():
        written.append(out / f"{stem}.{name}")
        written[-1].write_bytes(content)
    return written


def _labels(result: Explanation) -> list[str]:
    if result.detected is not None:
        return [one.label for one in result.detected]
    found = result.segmentation
    return list(result.labels) if found is None else [each.label for each in found.classes]


def _indices(result: Explanation) -> np.ndarray[Any, Any]:
    if result.detected is not None:
        return np.array([one.index for one in result.detected], np.int64)
    found = result.segmentation
    return result.indices if found is None else np.array([each.index for each in found.classes])


def _map_names(maps: Iterable[SaliencyMap]) -> Iterator[str]:
    """The method; a number behind it from the second map of a method on."""
    seen = Counter[str]()
    for one in maps:
        seen[one.method] += 1
        yield one.method if seen[one.method] == 1 else f"{one.method}-{seen[one.method]}"


def print_documents(rows: Iterable[Row]) -> int:
    """One document per image and line, on stdout; how many failed. Tensors are in the files only."""
    failed = 0
    for path, result, files in rows:
        document: dict[str, Any] = {"image": str(path)}
        if isinstance(result, OuzelError):
            failed += 1
            document["error"] = {"kind": type(result).__name__, "message": result.message, "field": result.field}
        else:
            document |= _document(result) | ({"files": [str(file) for file in files]} if files else {})
        click.echo(json.dumps(document))
    return failed


def _document(result: Explanation) -> dict[str, Any]:
    places = zip(result.indices.tolist(), result.labels, result.scores.tolist(), result.logits.tolist(), strict=True)
    found = result.segmentation
    return {
        "model": asdict(result.model),
        "scores": [dict(zip(("index", "label", "probability", "logit"), place, strict=True)) for place in places],
        **({} if found is None else {"segmentation": _segmentation_document(found)}),
        **({} if result.detected is None else {"detected": _detected_document(result.detected)}),
        "saliency": [_map_document(one) for one in result.saliency],
        "view": vars(result.view),
        "skipped": result.skipped,
        "timing": vars(result.timing),
        "request_id": result.request_id,
        "ledger": result.ledger.document() if result.ledger else None,
    }


def _segmentation_document(found: Segmentation) -> dict[str, Any]:
    return {"shape": list(found.label_map.shape), "classes": [asdict(each) for each in found.classes]}


def _detected_document(found: Detections) -> dict[str, Any]:
    return {"found": found.found, "detections": [asdict(each) for each in found]}


def inexact(model: ModelInfo) -> list[str]:
    """What a reader must know of answers that were not computed exactly."""
    if model.deviation is None:
        return []
    parts = {"logits": model.deviation.logits, "gradient maps": model.deviation.gradient}
    told = ", ".join(f"{name} {100 * value:.2g} %" for name, value in parts.items() if value is not None)
    return [f"{model.name} computes in {model.precision}, not exactly; deviation measured at loading: {told or 'none'}"]


def _map_document(one: SaliencyMap) -> dict[str, Any]:
    return {
        "method": one.method,
        "target": vars(one.target),
        "shape": list(one.array.shape),
        "minimum": one.minimum,
        "maximum": one.maximum,
        "rectified": one.rectified,
        "caveats": list(one.caveats),
        "parameters": {name: v.tolist() if isinstance(v, np.ndarray) else v for name, v in one.parameters.items()},
        "measures": dict(one.measures),
    }


def _classes(result: Explanation) -> list[tuple[str, str]]:
    """What was predicted, and how surely."""
    if result.detected is not None:
        return [(f"{one.label} {_corners(one.box)}", f"{one.score:.3f}") for one in result.detected]
    if result.segmentation is not None:
        return [(f"{each.label} {each.area:.1%}", f"{each.confidence:.3f}") for each in result.segmentation.classes]
    return [(label, f"{score:.3f}") for label, score in zip(result.labels, result.scores, strict=True)]


def _corners(box: Box) -> str:
    return f"({box.left:.0f}, {box.top:.0f}, {box.right:.0f}, {box.bottom:.0f})"


def print_rows(rows: Iterable[Row]) -> int:
    """Tables of classes and of maps on stdout, a line per failed image on stderr; how many failed."""
    failed = explained = 0
    start, files, table, maps = (
        time.perf_counter(),
        list[Path](),
        list[tuple[object, ...]](),
        list[tuple[object, ...]](),
    )
    caveats: dict[str, None] = {}  # each once, in order
    notes: dict[str, None] = {}
    for path, result, written in rows:
        files += written
        if isinstance(result, OuzelError):
            failed += 1
            text = " ".join(result.message.split())
            click.echo(f"Error: {text}" if str(path) in text else f"Error: {path}: {text}", err=True)
            continue
        explained += 1
        notes |= dict.fromkeys(inexact(result.model))
        classes = _classes(result)
        if result.detected is not None and result.detected.found > len(classes):
            notes[f"{path}: {len(classes)} of {result.detected.found} detections are shown"] = None
        for place, (name, score) in enumerate(classes):
            first = (path, f"{result.timing.total_ms:.0f}") if place == 0 else ("", "")
            table.append((first[0], name, score, first[1]))
        for place, one in enumerate(result.saliency):
            least = f"{one.minimum:.3g}" if one.minimum < 0 else ""  # that of a map without signs tells nothing
            caveats |= dict.fromkeys(f"{one.method}: {caveat}" for caveat in one.caveats)
            maps.append((path if place == 0 else "", one.method, one.target, least, f"{one.maximum:.3g}"))
    if table:
        print_table(_COLUMNS, table)
    if maps:
        click.echo()
        print_table(_MAPS, maps)
        for caveat in caveats:
            click.echo(caveat)
    for line in notes:
        click.echo(line)
    if explained > 1:
        click.echo(f"{explained} images in {time.perf_counter() - start:.2f} s")
    for file in files:
        click.echo(f"wrote {file}")
    return failed
