"""Networks that rest on objects: a gate that new versions pass before production, and a repair for those that do not.

audit = audit_model(model, audited_images(held_out, seed), margins.design(seed))
verdict = judge(margins, margins.design(seed), audit.evidence)
tuned = repair(model, examples, make_recipe("debias", {}))
"""

from ouzel.grounding.audits import Audited, audit_model, audited_images, check_apart, check_images
from ouzel.grounding.checks import AccuracyPairs, Check
from ouzel.grounding.gate import GateVerdict, judge
from ouzel.grounding.margins import GateMargins
from ouzel.grounding.repair import repair
from ouzel.grounding.report import gate_section, repair_section

__all__ = [
    "AccuracyPairs",
    "Audited",
    "Check",
    "GateMargins",
    "GateVerdict",
    "audit_model",
    "audited_images",
    "check_apart",
    "check_images",
    "gate_section",
    "judge",
    "repair",
    "repair_section",
]
