"""JSON with one form of bytes, so that a hash of it can be told again. No torch, no numpy.

References:
    RFC 8785, "JSON Canonicalization Scheme (JCS)".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ouzel.errors import InvalidArgument


def canonical(values: Mapping[str, Any], *, field: str = "record") -> bytes:
    """The canonical form of JSON values.

    Args:
        values: Of JSON's types. Lone surrogates in texts, which UTF-8 has not, are spelt out.
        field: What errors call the values.

    Returns:
        UTF-8, without a line break.

    Raises:
        InvalidArgument: A number is not finite or an integer beyond 2**53 - 1, or a value is of another type; or the
            package rfc8785 is missing.
    """
    try:
        import rfc8785
    except ImportError as error:
        raise InvalidArgument(f"{field}: needs the package rfc8785; install ouzel[audit]") from error
    try:
        return rfc8785.dumps(_encodable(values))
    except rfc8785.CanonicalizationError as error:
        raise InvalidArgument(f"{field}: {error}", field=field) from error


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return _plain(value)
    if isinstance(value, Mapping):
        return {_plain(str(key)): _encodable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_encodable(each) for each in value]
    return value


def _plain(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()
