"""One table from status to exception, and a tree that is what its docstring draws."""

from __future__ import annotations

import pickle
import re

import grpc
import pytest

import ouzel_client as oc
from ouzel_client import Retry, errors
from ouzel_client._transport.status import ERRORS, from_answer, from_status
from ouzel_protos.v1.explain_pb2 import Error

CODE = grpc.StatusCode


def test_the_docstring_draws_the_tree():
    parents, names = {}, set()
    for line in errors.__doc__.splitlines()[1:]:
        if drawn := re.match(r"^([│├└─ ]*)(\w+)", line):
            depth, name = len(drawn[1]) // 4, drawn[2]
            parents[depth] = name
            names.add(name)
            if depth:
                assert getattr(errors, name).__bases__[0].__name__ == parents[depth - 1]
    assert names == {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert names <= set(oc.__all__)


# What TorchServe 0.12 was seen to answer over gRPC.
@pytest.mark.parametrize(("code", "details", "error"), [
    (CODE.INTERNAL, "Model not found: zzz\norg.pytorch.serve.archive.model.ModelNotFoundException", oc.NotFound),
    (CODE.INTERNAL, "Model version: 9.0 does not exist for model: toy\norg.pytorch...", oc.NotFound),
    (CODE.INTERNAL, "Parameter model_name is required.\nBadRequestException.()", oc.InvalidArgument),
    (CODE.INTERNAL, "Worker died.\nInternalServerException.()", oc.Unavailable),
    (CODE.INTERNAL, 'Model "toy" has no worker to serve inference request. Please ...', oc.Overloaded),
    (CODE.UNAVAILABLE, "Prediction failed\norg.pytorch.serve.http.InternalServerException", oc.Unavailable),
    (CODE.PERMISSION_DENIED, "Token Authorization failed. Token either incorrect, ...", oc.Unauthenticated),
    (CODE.CANCELLED, "Stream removed (RST_STREAM (Received RST_STREAM with error code 8))", oc.TransportError),
    (CODE.INTERNAL, "something else", oc.ServerError),
    (CODE.DATA_LOSS, None, oc.DataLoss),
])  # fmt: skip
def test_statuses_of_torchserve(code, details, error):
    mapped = from_status(code, details, "host:1")
    assert type(mapped) is error
    assert "\n" not in str(mapped)
    assert "Exception" not in str(mapped)


def test_codes_of_an_answer_are_those_of_grpc():
    numbers = {code.value[0]: code for code in CODE}
    for name, number in Error.Code.items():
        if number:
            assert numbers[number].name == name
            assert type(from_answer(Error(code=number, message="x"))) is ERRORS.get(numbers[number], oc.ServerError)


def test_who_may_not_is_told_apart_from_who_is_not_known():
    """TorchServe has one status for both, and knows roles of nobody."""
    assert type(from_answer(Error(code=CODE.PERMISSION_DENIED.value[0], message="x"))) is oc.PermissionDenied
    assert type(from_status(CODE.PERMISSION_DENIED, "this needs the role 'jobs'", "host:1")) is oc.PermissionDenied
    assert not issubclass(oc.PermissionDenied, oc.Unauthenticated)


def test_an_unknown_code_is_the_servers_fault():
    error = from_answer(Error(code=99))
    assert type(error) is oc.ServerError
    assert str(error)


def test_errors_travel_between_processes():
    error = pickle.loads(pickle.dumps(oc.InvalidArgument("top_k: 0", field="top_k")))
    assert (type(error), str(error), error.field) == (oc.InvalidArgument, "top_k: 0", "top_k")


def test_pauses_grow_to_a_maximum():
    pauses = list(Retry(attempts=6, initial=1, maximum=4, multiplier=2).pauses())
    assert len(pauses) == 5
    for pause, full in zip(pauses, [1, 2, 4, 4, 4], strict=True):
        assert full / 2 <= pause <= full


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"initial": -1}, {"maximum": 0.01}, {"multiplier": 0.5}])
def test_a_retry_policy_is_checked(wrong):
    with pytest.raises(oc.ConfigurationError, match="retry"):
        Retry(**wrong)
