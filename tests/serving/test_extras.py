"""Extras by the metadata of the distribution."""

from __future__ import annotations

from importlib import metadata

import pytest

from ouzel.serving import extras, front_door, job_worker


def test_the_extras_of_the_services_are_here() -> None:
    assert extras.missing("gateway") == extras.missing("worker") == ()
    assert front_door.installed()
    assert job_worker.installed()


def test_what_an_extra_needs_is_named_also_through_others(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = {
        "ouzel": [
            "torch>=2",
            'no-such-server>=1; extra == "gateway"',
            'ouzel[ledger]; extra == "gateway"',
            'No_Such_Database[binary]>=3; extra == "ledger"',
            'no-such-thing; sys_platform == "nowhere" and extra == "gateway"',
            'no-such-plot; extra == "worker"',
            'pytest; extra == "gateway"',
        ]
    }
    monkeypatch.setattr(metadata, "requires", needs.__getitem__)
    assert extras.missing("gateway") == ("No_Such_Database", "no-such-server")
    assert not front_door.installed()
    assert extras.missing("worker") == ("no-such-plot",)
    assert extras.missing("nothing") == ()


def test_a_folder_that_is_no_distribution_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def requires(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", requires)
    assert extras.missing("gateway") == ()
