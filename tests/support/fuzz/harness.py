"""One fuzzer, in the environment that has atheris: harness.py TARGET FOLDER-OF-SEEDS [options of libFuzzer]."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[2]))

# What is not instrumented tells the fuzzer nothing.
_INSTRUMENTED = ["ouzel", "ouzel_protos", "ouzel_client", "support", "zipfile", "PIL", "jwt"]


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    logging.disable(logging.CRITICAL)
    with atheris.instrument_imports(include=_INSTRUMENTED, enable_loader_override=False):
        from support.fuzz.targets import TARGETS

        target = TARGETS[name]()
    for number, seed in enumerate(target.seeds):
        (folder / f"seed-{number}").write_bytes(seed)

    def run(data: bytes) -> None:
        try:
            target.run(data)
        except target.refusals:
            return

    atheris.Setup([sys.argv[0], str(folder), f"-max_len={target.longest}", *sys.argv[3:]], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
