"""What a tuning has come to, for people: figures, mistakes, and what the network looks at, before and after.

report = make_report(base, tuned)
write_report(report, "report/", title="pets")  # report.html and what it links to
"""

from ouzel.finetune.report.comparison import Comparison, compare
from ouzel.finetune.report.figures import classes, predictions, summary
from ouzel.finetune.report.files import files, write_report
from ouzel.finetune.report.make import make_report
from ouzel.finetune.report.results import Report, Section, Shown

__all__ = [
    "Comparison",
    "Report",
    "Section",
    "Shown",
    "classes",
    "compare",
    "files",
    "make_report",
    "predictions",
    "summary",
    "write_report",
]
