"""Runs the fuzzers one after another: `make fuzz`. Each gets the same time.

A finding is an exception that is none of ours, a hang of 5 s, or more than 500 MB. atheris has an environment of its
own, in the system's folder for temporary files, and finds our packages by this environment's paths.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from support.conformance.environments import environment
from support.fuzz.targets import TARGETS

FUZZER = ("atheris==3.0.0",)
_HANG, _MOST_MB = 5, 500
_AROUND = 600  # s for imports, seeds and figures, on a busy machine


def fuzzed(name: str, seconds: int, folder: Path) -> str:
    """A line of what one fuzzer did; "FOUND" is in it if it found something."""
    corpus, log = folder / name, folder / f"{name}.log"
    corpus.mkdir(parents=True, exist_ok=True)
    paths = [each for each in sys.path if each and Path(each) != Path(__file__).parent]
    words = [
        environment("atheris", FUZZER) / "python", Path(__file__).with_name("harness.py"), name, corpus,
        f"-max_total_time={seconds}", f"-timeout={_HANG}", f"-malloc_limit_mb={_MOST_MB}", "-rss_limit_mb=2500",
        f"-artifact_prefix={folder}/{name}-", "-print_final_stats=1", "-verbosity=1",
    ]  # fmt: skip
    began = time.monotonic()
    with log.open("wb") as out:
        try:
            status: object = subprocess.run(
                words, stdout=out, stderr=out, env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
                timeout=seconds + _AROUND, check=False,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:  # the other targets are still to be tried
            status = "none, it did not end"
    text = log.read_text("utf-8", "replace")
    runs = re.findall(r"number_of_executed_units: *(\d+)", text)
    covered = re.findall(r"cov: (\d+)", text)
    peak = re.findall(r"peak_rss_mb: *(\d+)", text)
    said = f"{name}: {runs[-1] if runs else '?'} runs in {time.monotonic() - began:.0f} s, coverage "
    said += f"{covered[0] if covered else '?'} to {covered[-1] if covered else '?'}, {peak[-1] if peak else '?'} MB"
    return said if status == 0 else f"{said} FOUND, status {status}: see {log}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="For each target.")
    parser.add_argument("--folder", type=Path, required=True, help="For corpora, findings and logs.")
    parser.add_argument("targets", nargs="*", default=list(TARGETS))
    chosen = parser.parse_args()
    found = False
    for name in chosen.targets:
        said = fuzzed(name, chosen.seconds, chosen.folder)
        found |= "FOUND" in said
        print(said, flush=True)
    sys.exit(found)


if __name__ == "__main__":
    main()
