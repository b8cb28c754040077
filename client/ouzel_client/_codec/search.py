"""The search for hyper-parameters: to messages of the wire, and its trials back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from ouzel_client._types.job_events import TrialEvent
from ouzel_client.errors import InvalidArgument
from ouzel_protos import parameters as codec
from ouzel_protos.parameters import BadParameter
from ouzel_protos.search import BadSearch, Interval, check, space_of
from ouzel_protos.v1 import job_pb2 as pb

_OUTCOMES: Mapping[int, Any] = MappingProxyType(
    {0: "began", pb.Trial.COMPLETE: "complete", pb.Trial.PRUNED: "pruned", pb.Trial.DIVERGED: "diverged"}
)


def ranges(
    given: Mapping[str, Any], recipe: str, trials: int, parameters: Mapping[str, Any]
) -> dict[str, pb.SearchRange]:
    """The ranges of a search.

    Args:
        given: As callers write them, see `FinetuneOptions.search`.
        recipe: That the trials learn by.
        trials: How many.
        parameters: That are given besides.

    Raises:
        InvalidArgument: The worker would refuse it.
    """
    try:
        space = space_of(given)
        check(recipe, space, trials, parameters)
        made = {}
        for name, each in space.items():
            if isinstance(each, Interval):
                interval = pb.SearchRange.Interval(low=each.low, high=each.high, log=each.log)
                made[name] = pb.SearchRange(interval=interval)
            else:
                values = [codec.encode(value) for value in each.values]
                made[name] = pb.SearchRange(choices=pb.SearchRange.Choices(values=values))
    except BadSearch as error:
        raise InvalidArgument(str(error), field=error.field) from None
    except BadParameter as error:
        raise InvalidArgument(f"search: {error}", field="search") from None
    return made


def trial(common: tuple[int, datetime, int], message: pb.Trial) -> TrialEvent:
    """The event that tells a trial."""
    values = {name: codec.decode(each) for name, each in sorted(message.parameters.items())}
    score = message.score if message.HasField("score") else None
    outcome = _OUTCOMES.get(message.outcome, "complete")
    tried, ended = MappingProxyType(values), (message.epochs, message.reason)
    return TrialEvent(*common, message.number, message.trials, tried, outcome, score, *ended)
