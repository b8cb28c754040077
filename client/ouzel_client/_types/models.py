"""The models of the worker's store, as the client shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from google.protobuf import json_format

from ouzel_client.errors import InvalidArgument
from ouzel_protos.v1 import model_pb2 as pb


@dataclass(frozen=True)
class StoredModel:
    """One version of a model. digest: "sha256:..." of the weights; size: bytes of the archive; served: whether the
    model server has it now. lineage: where a tuned model comes from (base, data set, recipe, seed, metrics, versions of
    libraries, job); empty for the operator's.
    """

    name: str
    version: str
    is_default: bool
    arch: str
    digest: str
    size: int
    classes: int
    served: bool
    lineage: Mapping[str, Any] = field(repr=False, hash=False)


@dataclass(frozen=True)
class ModelDetails:
    """labels: in the order of the outputs. layers: the shape of what each puts out for one image, by name."""

    model: StoredModel
    labels: tuple[str, ...] = field(repr=False)
    layers: Mapping[str, tuple[int, ...]] = field(repr=False, hash=False)
    preprocessing: Mapping[str, Any] = field(hash=False)


def reference(name: str, version: str = "", *, needed: bool = False) -> tuple[str, str]:
    """The name and the version of "NAME" and a version, or of "NAME@VERSION"; needed: one must be named.

    Raises InvalidArgument.
    """
    if not isinstance(name, str) or not name:
        raise InvalidArgument(f"model: {name!r:.80} is not a model's name", field="model")
    plain, at, named = name.partition("@")
    if not plain or (at and not named):  # the default is not meant by this
        raise InvalidArgument(f"model: {name!r:.80} is neither NAME nor NAME@VERSION", field="model")
    if named and version and named != version:
        raise InvalidArgument(f"version: {version!r:.40} is not that of {name!r:.80}", field="version")
    if needed and not (named or version):
        raise InvalidArgument(f"version: none is named; give {name}@VERSION", field="version")
    return plain, named or version


def stored_model(message: pb.Model) -> StoredModel:
    return StoredModel(
        message.name,
        message.version,
        message.is_default,
        message.arch,
        message.digest,
        message.size,
        message.classes,
        message.served,
        MappingProxyType(json_format.MessageToDict(message.lineage)),
    )


def model_details(message: pb.ModelDetails) -> ModelDetails:
    layers = {layer.name: tuple(layer.shape) for layer in message.layers}
    preprocessing = json_format.MessageToDict(message.preprocessing)
    return ModelDetails(
        stored_model(message.model), tuple(message.labels), MappingProxyType(layers), MappingProxyType(preprocessing)
    )
