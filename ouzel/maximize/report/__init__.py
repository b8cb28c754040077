"""What came out of a run, for people and for programs: galleries, verdicts, plain values."""

from ouzel.maximize.report.values import of_rankings, of_result
from ouzel.maximize.report.verdict import Verdict, judge, warnings_of, warnings_of_rankings

__all__ = ["Verdict", "judge", "of_rankings", "of_result", "warnings_of", "warnings_of_rankings"]
