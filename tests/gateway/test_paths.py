"""Paths of the REST port: no model that can be made is hidden behind one."""

from __future__ import annotations

import pytest
from starlette.routing import BaseRoute, Route

from ouzel.errors import InvalidArgument
from ouzel.gateway.access.open import OpenAccess
from ouzel.gateway.door import Door
from ouzel.gateway.explain import ExplainRest
from ouzel.gateway.oip.rest import OipRest
from ouzel.gateway.rest.http_calls import Calls
from ouzel.model_names import check_new_name
from support.still_engine import StillEngine


def routes() -> list[BaseRoute]:
    calls = Calls(Door(StillEngine(), OpenAccess()), 2**20, 1.0)
    return [*OipRest(calls, 8).routes(), *ExplainRest(calls).routes()]


def can_be_made(name: str) -> bool:
    try:
        check_new_name(name)
    except InvalidArgument:
        return False
    return True


def test_no_path_has_a_word_in_the_place_of_a_model_that_a_model_can_be_called() -> None:
    paths = [each.path.split("/") for each in routes() if isinstance(each, Route)]
    of_models = [path for path in paths if "{model}" in path]
    assert of_models
    hidden = set()
    for path in of_models:
        place = path.index("{model}")
        for other in paths:
            fits = len(other) == len(path) and all(
                given == word or word.startswith("{") or given.startswith("{")
                for given, word in zip(other, path, strict=True)
            )
            if fits and not other[place].startswith("{"):
                hidden.add(other[place])
    assert hidden == {"stats"}
    assert not any(map(can_be_made, hidden))
    assert can_be_made("statistics")


def test_the_refusal_names_field_and_reason() -> None:
    with pytest.raises(InvalidArgument, match=r"^name: 'stats' is taken") as caught:
        check_new_name("stats")
    assert caught.value.field == "name"
