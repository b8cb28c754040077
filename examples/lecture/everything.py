"""All figures of the lecture, one after the other: what `make lecture` runs.

python examples/lecture/everything.py                    # docs/lecture/
python examples/lecture/everything.py saliency digits    # some of them
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

FIGURES = (
    "sheep_and_goats",
    "best_image",
    "regularizers",
    "digits",
    "water_ouzel",
    "filters",
    "saliency",
    "probability",
    "transfer",
    "rendered",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=f"of {', '.join(FIGURES)}; none means all")
    for name in parser.parse_args().figures or FIGURES:
        if name not in FIGURES:
            parser.error(f"there is no figure {name!r}; there are {', '.join(FIGURES)}")
        begun = time.monotonic()
        print(f"== {name}", flush=True)
        subprocess.run([sys.executable, Path(__file__).parent / f"{name}.py"], check=True)
        print(f"{time.monotonic() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()
