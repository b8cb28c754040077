"""What people read of an audit: pages, the files of a record, and the bundle for auditors.

files = prediction_files(evidence, Case(image="goat.jpg", audited=now))
archive = bundle(files, prediction_facts(evidence, case))
"""

from ouzel.audit.report.article86 import article86_page
from ouzel.audit.report.bundle import bundle, sums
from ouzel.audit.report.case import Case, DatasetCase, Operator
from ouzel.audit.report.dataset import dataset_page
from ouzel.audit.report.dataset_files import dataset_facts, dataset_files, predictions_csv
from ouzel.audit.report.files import Files, map_files, prediction_facts, prediction_files
from ouzel.audit.report.findings import Pictures
from ouzel.audit.report.prediction import prediction_page
from ouzel.canonical import canonical

__all__ = [
    "Case",
    "DatasetCase",
    "Files",
    "Operator",
    "Pictures",
    "article86_page",
    "bundle",
    "canonical",
    "dataset_facts",
    "dataset_files",
    "dataset_page",
    "map_files",
    "prediction_facts",
    "prediction_files",
    "prediction_page",
    "predictions_csv",
    "sums",
]
