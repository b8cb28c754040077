"""The state of a run as bytes: tensors as safetensors, the rest as JSON in its header. No pickle, hence no code."""

from __future__ import annotations

import json
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ouzel.errors import DataLoss

_TENSOR, _ITEMS = "$tensor", "$items"


def dump(state: Any) -> bytes:
    """Encodes the state of a run.

    Args:
        state: Plain values, lists, tuples, dicts with any plain keys, and tensors, nested. Tuples come back as lists.

    Returns:
        A safetensors file.
    """
    tensors: dict[str, Tensor] = {}

    def plain(value: Any) -> Any:
        if isinstance(value, Tensor):
            name = str(len(tensors))
            tensors[name] = value.contiguous()
            return {_TENSOR: name}
        if isinstance(value, dict):
            return {_ITEMS: [[key, plain(each)] for key, each in value.items()]}
        return [plain(each) for each in value] if isinstance(value, (list, tuple)) else value

    text = json.dumps(plain(state))
    return save(tensors, {"state": text})


def read(content: bytes) -> Any:
    """Decodes what `dump` gave.

    Args:
        content: A safetensors file.

    Returns:
        The state.

    Raises:
        DataLoss: It is damaged.
    """
    try:
        size = int.from_bytes(content[:8], "little")
        text = json.loads(content[8 : 8 + size])["__metadata__"]["state"]
        tensors = load(content)
        return _full(json.loads(text), tensors)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise DataLoss(f"the checkpoint cannot be read ({error})") from error


def _full(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_full(each, tensors) for each in value]
    if isinstance(value, dict):
        if _TENSOR in value:
            return tensors[value[_TENSOR]]
        return {key: _full(each, tensors) for key, each in value[_ITEMS]}
    return value
