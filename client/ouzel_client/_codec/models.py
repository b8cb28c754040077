"""Models of the store, from messages of the wire; and how callers name them."""

from __future__ import annotations

from types import MappingProxyType

from google.protobuf import json_format

from ouzel_client._types.models import ModelDetails, StoredModel
from ouzel_client.errors import InvalidArgument
from ouzel_protos.v1 import model_pb2 as pb


def reference(name: str, version: str = "", *, needed: bool = False) -> tuple[str, str]:
    """The name and the version of "NAME" and a version, or of "NAME@VERSION".

    Args:
        name: "NAME" or "NAME@VERSION".
        version: The version, if the name does not have it.
        needed: Whether a version must be named.

    Raises:
        InvalidArgument: It is not a name, two versions are named, or a version is missing.
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
    """A version of a model."""
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
        message.task,
    )


def model_details(message: pb.ModelDetails) -> ModelDetails:
    """A version of a model, with its layers, labels and preprocessing."""
    layers = {layer.name: tuple(layer.shape) for layer in message.layers}
    preprocessing = json_format.MessageToDict(message.preprocessing)
    return ModelDetails(
        stored_model(message.model), tuple(message.labels), MappingProxyType(layers), MappingProxyType(preprocessing)
    )
