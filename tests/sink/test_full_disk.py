"""A disk that is full: what was not counted is refused, what was counted stays, and the sink goes on afterwards."""

from __future__ import annotations

from pathlib import Path

import psutil

from support.sink import REQUEST, RESPONSE, headers, request_body, response_body, sink, write

UNLIMITED = psutil.RLIM_INFINITY


def test_a_full_disk_refuses_and_loses_nothing(tmp_path: Path) -> None:
    """The limit on the size of files stands for the disk; the sink has no worker, so everything stays queued."""
    file = write(tmp_path)
    with sink(file) as found:
        process = psutil.Process(found.process.pid)
        found.pair("before")
        largest = max(each.stat().st_size for each in (tmp_path / "state").iterdir())
        process.rlimit(psutil.RLIMIT_FSIZE, (largest + 300_000, UNLIMITED))
        body, taken, refused = request_body(bytes(100_000)), 0, []
        for number in range(30):
            status, words = found.post(headers(REQUEST, f"{number}"), body)
            if status == 202:
                taken += 1
            else:
                refused.append((status, words))
        assert refused
        assert all(status in (429, 503) and len(words) < 300 and "Traceback" not in words for status, words in refused)
        during = found.status()
        assert during["received"] == 2 + taken
        assert during["unrecorded"] == len(refused)
        process.rlimit(psutil.RLIMIT_FSIZE, (UNLIMITED, UNLIMITED))
        for number in range(30):
            assert found.post(headers(RESPONSE, f"{number}"), response_body())[0] == 202
        found.stop(kill=True)
    with sink(file) as found:
        after = found.status()
        assert after["received"] == 2 + taken + 30
        assert (after["outcomes"]["queued"], after["outcomes"]["waiting"]) == (2 + 2 * taken, 30 - taken)
        assert found.stop() == 0
