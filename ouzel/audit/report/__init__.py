"""What people read of an audit: pages, the files of a record, and the bundle for auditors."""

from ouzel.audit.report.case import Case, Operator
from ouzel.audit.report.prediction import prediction_page

__all__ = ["Case", "Operator", "prediction_page"]
