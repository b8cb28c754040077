"""Rendered scenes first, then few photographs: draws the runs of `make rendered`.

    make rendered                            # hours on two cores; goes on where it was ended
    python examples/lecture/rendered.py      # docs/lecture/rendered.png
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from common import OUT

sys.path.insert(0, str(Path(__file__).parents[1] / "rendered"))
import experiment


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--folder", type=Path, default=Path("build/rendered"), help="of `make rendered`")
    parser.add_argument("--steps", type=int, default=120, help="of the runs that are drawn")
    asked = parser.parse_args()
    if not experiment.rows(asked.folder):
        print(f"{asked.folder} has no runs: `make rendered` makes them. The figure stays as it is.")
        return
    asked.out.mkdir(parents=True, exist_ok=True)
    experiment.chart(asked.folder, asked.out / "rendered.png", asked.steps)
    print(experiment.table(asked.folder, asked.steps))


if __name__ == "__main__":
    main()
