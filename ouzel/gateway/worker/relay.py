"""Calls to the worker, as bytes: what callers send goes on as it is, and so does what comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractContextManager, aclosing
from typing import Any

import grpc
import grpc.aio

from ouzel import visibility
from ouzel.errors import OuzelError, PermissionDenied, Unavailable
from ouzel.gateway.access.caller import Caller
from ouzel.gateway.channels import OPTIONS
from ouzel.gateway.reading import Reading
from ouzel.gateway.under_way import UnderWay
from ouzel.gateway.worker.methods import Method
from ouzel.gateway.worker.place import WorkerOptions, WorkerPlace, token_of
from ouzel.gateway.worker.visible import check_request, filtered_answer, sees_all
from ouzel.grpc_errors import DETAILS
from ouzel.telemetry import request_ids, tracing

_Code = grpc.StatusCode
_LARGE = 2**14  # bytes of a request that is looked into in a thread


class WorkerError(Exception):
    """What the worker refused, in its words.

    Attributes:
        code: The status.
        words: The reason.
        details: google.rpc.Status, serialised; b"" if there is none.
    """

    def __init__(self, code: grpc.StatusCode, words: str, details: bytes) -> None:
        super().__init__(words)
        self.code, self.words, self.details = code, words, details


async def whole(under_way: UnderWay, answers: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """All answers of a call. Raises what it raises, and Unavailable if the gateway stops and waits no longer."""
    async with aclosing(answers):
        while (content := await under_way.uninterrupted(anext(answers, None))) is not None:
            yield content


class Relay:
    """Makes calls for callers who were admitted.

    Args:
        options: Where the worker is, and as whom callers come.
        refusals: Counts refusals of models: `Door.refusals`.
        reading: Looks into large requests of callers who may not see all models.
    """

    def __init__(
        self, options: WorkerOptions, refusals: Callable[[], AbstractContextManager[None]], reading: Reading
    ) -> None:
        self._options, self._refusals, self._reading = options, refusals, reading
        self._target = ""
        self._channel: grpc.aio.Channel | None = None
        self._replaced: list[grpc.aio.Channel] = []  # calls may still be in flight there

    async def close(self) -> None:
        """Ends what is in flight."""
        for channel in (*self._replaced, self._channel):
            if channel is not None:
                await channel.close()

    async def call(
        self, method: Method, caller: Caller, requests: AsyncIterator[bytes], seconds: float | None
    ) -> AsyncGenerator[bytes]:
        """Makes a call. Closing the generator cancels it.

        Args:
            method: That is called.
            caller: Who was admitted for it.
            requests: What is sent; what it raises ends the call, and is raised.
            seconds: For the call; None is no limit.

        Yields:
            The answers.

        Raises:
            WorkerError: The worker refuses.
            OuzelError: It does not answer, or the caller may not come to it or name that model.
        """
        channel, token = await self._connected(caller.tenant)
        told = {request_ids.HEADER: request_ids.current()} if request_ids.current() else {}
        if not sees_all(caller):
            told[visibility.HEADER] = visibility.told(caller.models, caller.tenant_models)
        metadata = (("authorization", f"Bearer {token}"), *(told | tracing.carried()).items())
        call: Any = channel.stream_stream(method.path)(timeout=seconds, metadata=metadata)
        failed: list[Exception] = []

        async def send() -> None:
            try:
                async for content in requests:
                    with self._refusals():
                        if len(content) > _LARGE and not sees_all(caller):
                            await self._reading.run(caller.tenant, check_request, method, content, caller)
                        else:
                            check_request(method, content, caller)
                    await call.write(content)
                await call.done_writing()
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                pass  # it has ended; reading says how
            except Exception as error:  # noqa: BLE001 - raised below
                failed.append(error)
                call.cancel()

        sending = asyncio.create_task(send())
        try:
            while (content := await call.read()) is not grpc.aio.EOF:
                yield filtered_answer(method, content, caller)
            if failed:
                raise failed[0]
            await self._check(call, caller)
        except grpc.aio.AioRpcError as error:
            raise (failed[0] if failed else self._translated(error, caller)) from None
        except asyncio.CancelledError:
            if failed:  # the call was cancelled for it, not we
                raise failed[0] from None
            raise
        finally:
            call.cancel()
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _check(self, call: Any, caller: Caller) -> None:
        if await call.code() is not _Code.OK:
            trailing = await call.trailing_metadata()
            raise self._refused(await call.code(), await call.details(), trailing, caller)

    def _translated(self, error: grpc.aio.AioRpcError, caller: Caller) -> Exception:
        return self._refused(error.code(), error.details() or "", error.trailing_metadata(), caller)

    def _refused(self, code: grpc.StatusCode, words: str, trailing: Any, caller: Caller) -> Exception:
        details = next((value for key, value in trailing or () if key == DETAILS), b"")
        if code is _Code.UNAVAILABLE and not details:  # its text holds addresses
            return Unavailable("the worker does not answer; it may be starting again")
        if code is _Code.UNKNOWN:  # it did not say this itself: the text is of an exception
            return OuzelError("the worker failed to answer")
        if code is _Code.UNAUTHENTICATED:
            return PermissionDenied(f"the worker does not know the tenant {caller.tenant!r:.80}")
        return WorkerError(code, words, details)

    async def _connected(self, tenant: str) -> tuple[grpc.aio.Channel, str]:
        place, token = await asyncio.to_thread(self._look, tenant)
        if self._channel is None or self._target != place.grpc:
            if self._channel is not None:
                self._replaced.append(self._channel)
            self._channel, self._target = grpc.aio.insecure_channel(place.grpc, OPTIONS), place.grpc
        return self._channel, token

    def _look(self, tenant: str) -> tuple[WorkerPlace, str]:
        place = self._options.find()
        if place is None:
            raise Unavailable("the worker is not running")
        return place, token_of(tenant, place, self._options.tokens)
