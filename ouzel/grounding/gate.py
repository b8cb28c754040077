"""The gate before production: is a new version as right as the present default, and does it rest less on backgrounds?

accuracy = AccuracyPairs(fixed=3, broken=1, both=90, images=100)
verdict = judge(margins, design, new, accuracy=accuracy, present=present, against="pets@1")
verdict.passed, verdict.reason
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ouzel.audit.dataset import DatasetDesign, DatasetEvidence
from ouzel.errors import InvalidArgument
from ouzel.grounding.checks import (
    AccuracyPairs,
    Check,
    absolute_check,
    accuracy_check,
    classes_check,
    control_check,
    relative_check,
)
from ouzel.grounding.margins import RULES, GateMargins


@dataclass(frozen=True)
class GateVerdict:
    """Whether a new version may become the default.

    Attributes:
        passed: Whether all checks did.
        against: The present default, "NAME@VERSION"; "" for the first version of a name.
        checks: All of them.
        margins: That were fixed beforehand.
        design_sha256: Of the design of the audits.
        examples_sha256: Of the audited images.
    """

    passed: bool
    against: str
    checks: tuple[Check, ...]
    margins: GateMargins
    design_sha256: str
    examples_sha256: str

    @property
    def reason(self) -> str:
        """Why, in a sentence or two: the checks that failed, or all of them."""
        told = [each.reason for each in self.checks if not each.passed] or [each.reason for each in self.checks]
        return " ".join(told)

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> GateVerdict:
        """What `to_dict` gave, with its rules or without."""
        named = ("name", "passed", "reason")
        checks = [
            Check(each["name"], each["passed"], each["reason"], {k: v for k, v in each.items() if k not in named})
            for each in facts["checks"]
        ]
        margins = GateMargins(facts["accuracy_margin"], facts["reliance_margin"], tuple(facts["scenes"]))
        digests = (facts["design_sha256"], facts["examples_sha256"])
        return cls(facts["passed"], facts["against"], tuple(checks), margins, *digests)

    def to_dict(self) -> dict[str, Any]:
        """As values of JSON's types, with the rules in words."""
        return {
            "passed": self.passed,
            "reason": self.reason,
            "against": self.against,
            **self.margins.to_dict(),
            "checks": [
                {"name": each.name, "passed": each.passed, "reason": each.reason, **each.figures}
                for each in self.checks
            ],
            "design_sha256": self.design_sha256,
            "examples_sha256": self.examples_sha256,
            "rules": RULES,
        }


def judge(
    margins: GateMargins,
    design: DatasetDesign,
    new: DatasetEvidence,
    *,
    accuracy: AccuracyPairs | None = None,
    present: DatasetEvidence | None = None,
    against: str = "",
) -> GateVerdict:
    """Judge a new version.

    Args:
        margins: Fixed beforehand.
        design: Of both audits.
        new: Audit of the new version, on held-out images.
        accuracy: Both versions on the held-out images; None for the first version of a name.
        present: Audit of the present default, by the same design, on the same images; None as above.
        against: The present default, "NAME@VERSION"; "" as above.

    Raises:
        InvalidArgument: The audits are of other images or of another design.
    """
    if present is not None and (new.design_sha256, new.examples_sha256) != (
        present.design_sha256,
        present.examples_sha256,
    ):
        raise InvalidArgument("present: is an audit of other images, or of another design", field="present")
    if design.sha256() != new.design_sha256:
        raise InvalidArgument("new: is an audit of another design", field="new")
    checks = [] if accuracy is None else [accuracy_check(accuracy, margins.accuracy_margin)]
    checks.append(
        absolute_check(new, design, margins) if present is None else relative_check(new, present, design, margins)
    )
    checks += [control_check(new, design, margins), classes_check(new, present)]
    return GateVerdict(
        all(each.passed for each in checks),
        against,
        tuple(checks),
        margins,
        new.design_sha256,
        new.examples_sha256,
    )
