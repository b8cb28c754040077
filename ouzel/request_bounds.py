"""How many elements a request of each method may have, as JSON and as a message: the gateway and the worker agree.

Generous for what callers need, and so few that each is read in much less than a second.
"""

from __future__ import annotations

MOST = 10_000
_MORE = {
    "/ouzel.v1.DatasetService/CreateDataset": 100_000,  # of one message; a manifest comes in as many as it needs
    "/ouzel.v1.DatasetService/FindMissing": 50_000,  # 10,000 files
    "/ouzel.v1.JobService/CreateJob": 200_000,  # 20,000 recorded predictions, each with the time
    "/ouzel.v1.AuditService/AuditPrediction": 50_000,  # 1,000 boxes and scores
    "/ouzel.v1.AuditService/AuditReported": 150_000,  # with 100,000 labels
}
MESSAGES = 100_000  # of one call


def most_elements(path: str) -> int:
    """Of one message.

    Args:
        path: "/package.Service/Method".
    """
    return _MORE.get(path, MOST)
