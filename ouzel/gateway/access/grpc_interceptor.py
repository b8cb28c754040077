"""Access for a server of gRPC: who is not known, or lacks the role, is denied before a message is read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import grpc
import grpc.aio

from ouzel import grpc_errors
from ouzel.errors import InvalidArgument, OuzelError, Unauthenticated
from ouzel.gateway.access.call import Call, Denied, begin, nobody
from ouzel.gateway.access.caller import Access
from ouzel.gateway.access.certificate import Certificate

OPEN = ("/grpc.health.v1.Health/",)  # those who ask for health are not known
_NO_ROLES: Mapping[str, str] = MappingProxyType({})


class AccessInterceptor(grpc.aio.ServerInterceptor):
    """Finds the caller of each call, and puts it into `call.current()`.

    A call is denied by a handler of streams in both directions, whatever was called: one that takes a single message
    would wait for it, and callers who never send one could fill the server. For the same reason, where certificates
    count, all calls are answered by such a handler: a certificate is known only there.

    Args:
        access: Decides.
        certificates: Whether callers show certificates.
        roles: By "/package.Service/Method": the role that is needed, if that can be said before the message is read.
            Rates are counted, and models looked at, by `Call.admitted`.
        denied: Hears of each call that is denied.
        open: Beginnings of methods that everybody may call.
    """

    def __init__(
        self,
        access: Access,
        *,
        certificates: bool = False,
        roles: Mapping[str, str] = _NO_ROLES,
        denied: Denied = nobody,
        open: tuple[str, ...] = OPEN,
    ) -> None:
        self._access, self._certificates, self._roles = access, certificates, roles
        self._denied, self._open = denied, open

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Hands the call on, or denies it."""
        method = handler_call_details.method
        if method.startswith(self._open):
            return await continuation(handler_call_details)
        try:
            authorization = _authorization(handler_call_details.invocation_metadata)
            if not self._certificates:
                self._begin(method, authorization, None)
        except OuzelError as error:
            self._denied(method, error.code)
            return grpc.stream_stream_rpc_method_handler(_denying(error))
        handler = await continuation(handler_call_details)
        if handler is None or not self._certificates:
            return handler
        return self._with_certificate(handler, method, authorization)

    def _begin(self, method: str, authorization: str | None, certificate: Certificate | None) -> None:
        caller = self._access.identify(authorization, certificate)
        if role := self._roles.get(method):
            caller.need(role)
        begin(Call(caller, method, self._access, self._denied))

    def _with_certificate(self, handler: Any, method: str, authorization: str | None) -> Any:
        """A handler that looks at the certificate before it reads a message."""

        async def answer(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            try:
                self._begin(method, authorization, _certificate(context))
                argument = requests if handler.request_streaming else await _only(requests)
            except OuzelError as error:
                self._denied(method, error.code)
                await grpc_errors.abort(context, error)
            answers = _behaviour(handler)(argument, context)
            if not handler.response_streaming:
                yield await answers
                return
            async for each in answers:
                yield each

        return grpc.stream_stream_rpc_method_handler(answer, handler.request_deserializer, handler.response_serializer)


def _denying(error: OuzelError) -> Callable[..., Awaitable[None]]:
    async def deny(_requests: Any, context: Any) -> None:
        await grpc_errors.abort(context, error)

    return deny


def _authorization(metadata: Iterable[tuple[Any, Any]] | None) -> str | None:
    given = [value for key, value in metadata or () if key == "authorization"]
    if len(given) > 1:
        raise Unauthenticated("the metadata authorization comes more than once")
    return str(given[0]) if given else None


def _certificate(context: Any) -> Certificate | None:
    pem = context.auth_context().get("x509_pem_cert")
    return Certificate.of_pem(bytes(pem[0])) if pem else None


async def _only(requests: AsyncIterator[Any]) -> Any:
    async for each in requests:
        return each
    raise InvalidArgument("the call holds no message")


def _behaviour(handler: Any) -> Any:
    return next(
        each
        for each in (handler.unary_unary, handler.unary_stream, handler.stream_unary, handler.stream_stream)
        if each is not None
    )
