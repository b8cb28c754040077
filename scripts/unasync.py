"""Generates the blocking twin of the asyncio client: client/ouzel_client/_sync from _async, token by token.

python scripts/unasync.py            writes it
python scripts/unasync.py --check    writes nothing; status 1 if the committed files differ
"""

from __future__ import annotations

import argparse
import io
import sys
import tokenize
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "client" / "ouzel_client"
# Dropping words leaves the layout, and the order of imports, to differ from what the formatter would choose.
HEADER = """\
# Generated from _async/{name} by scripts/unasync.py (`make sync`). Do not edit.
# ruff: noqa: I001, SIM117, RUF100
# fmt: off
"""
RENAMED = {
    "AsyncAudit": "Audit",
    "AsyncClient": "Client",
    "AsyncJob": "Job",
    "AsyncJobs": "Jobs",
    "AsyncDatasets": "Datasets",
    "AsyncGenerator": "Generator",
    "AsyncIterator": "Iterator",
    "AsyncModel": "Model",
    "AsyncModels": "Models",
    "AsyncTransport": "Transport",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "_async": "_sync",
    "grpc_async": "grpc_sync",
    "aclosing": "closing",
}
TEXTS = {
    "The asyncio client, written by hand; `_sync` is generated from it.": "The blocking client.",
}


def unasync(source: str) -> str:
    """The blocking form of asyncio source: `async` and `await` dropped, names exchanged, also within texts."""
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    lines = source.splitlines(keepends=True)
    edits: dict[int, list[tuple[int, int, str]]] = {}
    for token in tokens:
        (row, start), (end_row, end) = token.start, token.end
        if token.type == tokenize.NAME and token.string in ("async", "await"):
            space = len(lines[row - 1][end:]) - len(lines[row - 1][end:].lstrip(" "))
            edits.setdefault(row, []).append((start, end + space, ""))
        elif token.type == tokenize.NAME and token.string in RENAMED:
            edits.setdefault(row, []).append((start, end, RENAMED[token.string]))
        elif token.type == tokenize.STRING and row == end_row:
            edits.setdefault(row, []).append((start, end, _text(token.string)))
    for row, changes in edits.items():
        for start, end, new in sorted(changes, reverse=True):
            lines[row - 1] = lines[row - 1][:start] + new + lines[row - 1][end:]
    return "".join(lines)


def _text(text: str) -> str:
    for old, new in TEXTS.items():
        text = text.replace(old, new)
    return text


def generated() -> dict[Path, str]:
    """Path and text of every file of the twin."""
    return {
        PACKAGE / "_sync" / path.name: HEADER.format(name=path.name) + unasync(path.read_text(encoding="utf-8"))
        for path in sorted((PACKAGE / "_async").glob("*.py"))
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Generate the blocking client from the asyncio client.")
    parser.add_argument("--check", action="store_true", help="compare only")
    check = parser.parse_args().check
    files = generated()
    stale = [path for path, text in files.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    stale += [path for path in (PACKAGE / "_sync").glob("*.py") if path not in files]
    if check:
        for path in stale:
            print(f"{path}: differs from what scripts/unasync.py makes; run `make sync`", file=sys.stderr)
        return 1 if stale else 0
    for path, text in files.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for path in set(stale) - set(files):
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
