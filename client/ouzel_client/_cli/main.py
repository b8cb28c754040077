"""The `ouzel` command: verbs of this distribution, and those that others plug in."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

import click

from ouzel_client._cli import plugins

# Module and name of each verb, its section of the help and its line; a verb without a section is hidden. The modules
# are loaded when they are needed: the list of verbs does not wait for them.
OWN: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        "explain": ("explain:explain", "explain", "Predict what images show, and explain why."),
        "maximize": ("jobs:maximize", "jobs", "Seek images that excite units of a model most."),
        "search": ("jobs:search", "jobs", "Find images of a data set that excite units most."),
        "finetune": ("tuning:finetune", "jobs", "Train a classifier of your images from a model."),
        "repair": ("tuning:repair", "jobs", "Mend a model that goes by the background."),
        "datasets": ("datasets:datasets", "jobs", "Upload, check and delete data sets."),
        "jobs": ("manage:jobs", "jobs", "List, watch and control jobs."),
        "models": ("models:models", "models", "List, show, promote and delete models."),
        "audit": ("audit:audit", "audit", "Tell whether a prediction rests on the object."),
        "audit-dataset": ("audit_dataset:audit_dataset", "audit", "Audit the predictions on many images."),
        "tuned": ("models:tuned", "", ""),
    }
)
SECTIONS = ("serve", "explain", "jobs", "models", "audit")


class _Verbs(click.Group):
    """Our own commands, and those of the entry points; ours come first where both have a name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*OWN, *(name for name in plugins.names() if name not in OWN)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in OWN:
            return plugins.command(cmd_name)
        module, _, name = OWN[cmd_name][0].partition(":")
        verb: click.Command = getattr(import_module(f"ouzel_client._cli.{module}"), name)
        return verb

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Each verb in its section, in a line; a plug-in that is broken says so."""
        sections: dict[str, list[tuple[str, str]]] = {section: [] for section in SECTIONS}
        for name in self.list_commands(ctx):
            described = OWN[name][1:] if name in OWN else plugins.described(name)
            if described is not None and described != ("", ""):
                sections.setdefault(described[0] or "others", []).append((plugins.spoken(name), described[1]))
        widest = max(len(name) for rows in sections.values() for name, _ in rows)
        for section, rows in sections.items():
            if rows:
                with formatter.section(section.capitalize()):
                    formatter.write_dl([(name.ljust(widest), line) for name, line in rows])


@click.group(
    cls=_Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit status: 0 done, 1 failed or answered with no, 2 wrong usage, 130 Ctrl-C.",
)
@click.version_option(package_name="ouzel-client", prog_name="ouzel")
def main() -> None:
    """Serve image classifiers that can explain themselves."""
