"""What the progress of a job that has ended says: the worker and the client tell it alike."""

from __future__ import annotations

from typing import Any

from ouzel_protos.v1 import job_pb2 as pb

_FINAL = (pb.Job.SUCCEEDED, pb.Job.FAILED, pb.Job.CANCELLED)


def settled(progress: pb.Progress, state: Any) -> pb.Progress:
    """The progress of a job in this state, a `Job.State`. While it has not ended, the progress as it is.

    Of one that SUCCEEDED all steps are done and there is no phase. Of one that FAILED or was CANCELLED the phase is
    where it ended, with its steps if their number was known: "4 of nobody knows" says nothing any more.
    """
    if state not in _FINAL:
        return progress
    if state == pb.Job.SUCCEEDED:
        steps = progress.steps or progress.step
        return pb.Progress(step=steps, steps=steps)
    return progress if progress.steps else pb.Progress(phase=progress.phase)
