"""`ouzel sample`: a photograph to try things on, that anyone may use."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from ouzel.cli._common import print_json
from ouzel.cli._errors import Command
from ouzel.errors import AlreadyExists, FailedPrecondition, InvalidArgument


@dataclass(frozen=True)
class _Photograph:
    """name: as it is asked for; source: in skimage.data; licence: as that package tells it."""

    name: str
    source: str
    shows: str
    width: int
    height: int
    licence: str


_PHOTOGRAPHS = (
    _Photograph("cat", "chelsea", "a cat's face", 451, 300, "CC0, by Stefan van der Walt"),
    _Photograph("coffee", "coffee", "a cup of espresso on a table", 600, 400, "CC0, by Rachel Michetti"),
    _Photograph("rocket", "rocket", "a rocket at its start", 640, 427, "public domain, by SpaceX"),
    _Photograph("astronaut", "astronaut", "Eileen Collins before a shuttle", 512, 512, "public domain, by NASA"),
    _Photograph("photographer", "camera", "a man with a camera, grey", 512, 512, "CC0, by Lav Varshney"),
)
_BY_NAME = {each.name: each for each in _PHOTOGRAPHS}
_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}


@click.command(cls=Command)
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--photo",
    type=click.Choice(list(_BY_NAME)),
    help="Photograph to write. [default: the one that FILE is named after, otherwise cat]",
)
@click.option("--list", "listed", is_flag=True, help="List the photographs and write nothing.")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@click.option("--json", "as_json", is_flag=True, help="With --list: print JSON.")
def sample(file: Path | None, photo: str | None, listed: bool, force: bool, as_json: bool) -> None:
    """Write a photograph to try things on.

    FILE is a .jpg, .png or .webp file, for example cat.jpg. The photographs are free to use. They come with
    scikit-image.
    """
    if listed:
        _list(as_json)
        return
    if file is None:
        raise click.UsageError("name the file: ouzel sample cat.jpg; `ouzel sample --list` tells what there is")
    chosen = _BY_NAME[photo or (file.stem.lower() if file.stem.lower() in _BY_NAME else "cat")]
    content = _encoded(chosen, file)
    if file.exists() and not force and file.read_bytes() != content:
        raise AlreadyExists(f"{file}: is there already, and is another picture; --force writes over it")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    click.echo(f"wrote {file}: {chosen.shows}, {chosen.width} x {chosen.height} pixels ({chosen.licence})")


def _encoded(chosen: _Photograph, file: Path) -> bytes:
    kind = _FORMATS.get(file.suffix.lower())
    if kind is None:
        raise InvalidArgument(f"{file}: the ending {file.suffix!r} is not one of {', '.join(_FORMATS)}", field="file")
    try:
        from skimage import data
    except ImportError as error:
        raise FailedPrecondition(
            "sample: the photographs come with scikit-image, which is not installed: pip install 'ouzel[trust]'"
        ) from error
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(getattr(data, chosen.source)()).save(out, kind, quality=95)
    return out.getvalue()


def _list(as_json: bool) -> None:
    if as_json:
        print_json([asdict(each) for each in _PHOTOGRAPHS])
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "shows", "pixels", "licence")
    for each in _PHOTOGRAPHS:
        table.add_row(each.name, each.shows, f"{each.width} x {each.height}", each.licence)
    Console().print(table)
