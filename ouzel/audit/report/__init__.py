"""What people read of an audit: pages, the files of a record, and the bundle for auditors.

files = prediction_files(evidence, Case(image="goat.jpg", audited=now))
archive = bundle(files, prediction_facts(evidence, case))
"""

from ouzel.audit.report.article86 import article86_page
from ouzel.audit.report.bundle import bundle, sums
from ouzel.audit.report.canonical import canonical
from ouzel.audit.report.case import Case, Operator
from ouzel.audit.report.files import Files, prediction_facts, prediction_files
from ouzel.audit.report.prediction import prediction_page

__all__ = [
    "Case",
    "Files",
    "Operator",
    "article86_page",
    "bundle",
    "canonical",
    "prediction_facts",
    "prediction_files",
    "prediction_page",
    "sums",
]
