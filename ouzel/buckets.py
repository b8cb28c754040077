"""A prefix of a bucket that speaks S3, through obstore: opened by its URL, with errors in words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ouzel.errors import InvalidArgument, OuzelError, Unavailable

if TYPE_CHECKING:
    from obstore.store import S3Store

SCHEME = "s3://"
_REQUEST = "30s"  # of one request, and its answer
_CONNECT = "5s"
_BUCKET = re.compile(r"[A-Za-z0-9._-]{3,63}")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_STATUS, _CODE = re.compile(r"status code: (\d{3})"), re.compile(r"<Code>(\w+)</Code>")
_METADATA = "169.254.169.254"  # where machines in a cloud ask for their role
_NO_BUCKET = "NoSuchBucket"
_ELSEWHERE = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException")


class StorageAway(OuzelError):
    """The storage does not answer at this moment.

    Another class than Unavailable, which within a job means the job store: there a job's process ends at once.
    """

    code = "UNAVAILABLE"
    http = 503


class StorageRefused(StorageAway):
    """The storage answers that there is no such bucket, or that the keys are wrong: no waiting helps.

    Jobs wait for its operator all the same, as for a storage that is away: what they have computed is not lost.

    Args:
        message: For callers.
        why: For the operator: which bucket, and what it said.

    Attributes:
        why: The same.
    """

    code = "INTERNAL"
    http = 500

    def __init__(self, message: str, *, why: str) -> None:
        super().__init__(message)
        self.why = why


def is_bucket(place: str | Path) -> bool:
    """Whether a place is the URL of a bucket, and not a folder."""
    return str(place).startswith(SCHEME)


def is_url(place: str | Path) -> bool:
    """Whether a place is a URL, or was meant as one: "s3:/BUCKET" is no folder that anybody has."""
    return _URL.match(str(place)) is not None


def located(place: str | Path, field: str) -> str | Path:
    """A place in full: a folder becomes absolute, a bucket stays.

    Args:
        place: A folder, or "s3://BUCKET/PREFIX".
        field: Of the option that names it, for messages.

    Raises:
        InvalidArgument: It is another URL.
    """
    if is_bucket(place):
        return SCHEME + str(place).removeprefix(SCHEME).rstrip("/")
    if is_url(place):
        raise InvalidArgument(f"{field}: {str(place)[:80]!r} is not a folder or s3://BUCKET/PREFIX", field=field)
    return Path(place).expanduser().absolute()


class Prefix:
    """A prefix of a bucket. Keys, region and endpoint come from the environment.

    The variables are AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT_URL; without keys, the
    machine's role counts.

    Args:
        url: "s3://BUCKET/PREFIX".
        field: Of the option that names it, for messages.
        retries: How often a request that failed is sent again; None is obstore's choice.
        patience: Time for a request with all that follow it, in seconds; counts with `retries` only.

    Attributes:
        url: Without a slash at its end.
        api: The package obstore.
        store: What its functions take.

    Raises:
        InvalidArgument: It names no bucket, or the package obstore is missing.
    """

    def __init__(self, url: str, field: str, *, retries: int | None = None, patience: float = 20.0) -> None:
        try:
            import obstore
            from obstore.store import S3Store
        except ImportError as error:
            raise InvalidArgument(
                f"{field}: s3:// needs the package obstore; install ouzel[s3]", field=field
            ) from error
        bucket, _, prefix = url.removeprefix(SCHEME).strip("/").partition("/")
        if not is_bucket(url) or not _BUCKET.fullmatch(bucket):
            raise InvalidArgument(
                f"{field}: {url[:80]!r} names no bucket: 3 to 63 letters, digits, dots, - and _", field=field
            )
        self.url, self._bucket = url.rstrip("/"), bucket
        self.api: Any = obstore
        # Over plain HTTP only where the operator's endpoint says so.
        options: dict[str, Any] = {
            "client_options": {"allow_http": True, "timeout": _REQUEST, "connect_timeout": _CONNECT}
        }
        if retries is not None:
            options["retry_config"] = {"max_retries": retries, "retry_timeout": timedelta(seconds=patience)}
        try:
            self.store: S3Store = S3Store(bucket, prefix=prefix or None, **options)
        except ValueError as error:  # "..", // and the like
            reason = str(error).partition("\n")[0][:200]
            raise InvalidArgument(f"{field}: {url[:80]!r} is no prefix of a bucket ({reason})", field=field) from error

    @contextmanager
    def translated(self, path: str) -> Iterator[None]:
        """What obstore raises in the block becomes Unavailable, with the path and the cause.

        FileNotFoundError passes, and so do the errors of conditions that do not hold. What the operator has to mend is
        StorageRefused; obstore has FileNotFoundError for a missing bucket too, so it must not be caught in the block.
        """
        from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

        try:
            yield
        except (AlreadyExistsError, PreconditionError):
            raise
        except FileNotFoundError as error:
            if reason := self._refusal(str(error)):
                raise self._refused(reason) from error
            raise
        except BaseError as error:
            if reason := self._refusal(str(error)):
                raise self._refused(reason) from error
            if _METADATA in str(error):
                raise Unavailable(
                    f"{self.url}/{path} cannot be asked: AWS_ACCESS_KEY_ID is not set, and this machine tells no role"
                ) from error
            cause = " ".join(str(error).partition("Debug source:")[0].split())[:300]
            raise Unavailable(f"{self.url}/{path} does not answer ({type(error).__name__}: {cause})") from error

    def _refused(self, reason: str) -> StorageRefused:
        words = f"{self.url} cannot be used: {reason}"
        return StorageRefused(words, why=words)

    def _refusal(self, text: str) -> str:
        """What the operator has to mend, by what obstore tells of an answer; "" if it may pass by itself.

        Nothing else of the answer is told: it may hold keys and what was signed.
        """
        status, said = _answer(text)
        # Some refuse to write to a bucket that they do not have. A HEAD is answered without words.
        if (status in ("401", "403") or (status == "404" and not said)) and self._is_missing():
            said = _NO_BUCKET
        if said == _NO_BUCKET:
            return f"there is no bucket {self._bucket!r}"
        if said in _ELSEWHERE:
            return f"the bucket {self._bucket!r} is in another region; set AWS_REGION ({said})"
        if status in ("401", "403"):
            told = f"{self._bucket!r} ({f'{status} {said}'.strip()})"
            return f"the keys of the environment are refused for the bucket {told}; see AWS_ACCESS_KEY_ID"
        return ""

    def _is_missing(self) -> bool:
        from obstore.exceptions import BaseError

        try:
            next(iter(self.api.list(self.store, chunk_size=1)), None)
        except (BaseError, FileNotFoundError) as error:
            return _answer(str(error))[1] == _NO_BUCKET
        return False


def _answer(text: str) -> tuple[str, str]:
    """Status and code of an answer of the bucket, in what obstore tells of it; "" for what it does not say."""
    told = text.partition("Debug source:")[0]
    if _METADATA in told:  # it was another one who answered
        return "", ""
    status, code = _STATUS.search(told), _CODE.search(told)
    return status[1] if status else "", code[1] if code else ""
