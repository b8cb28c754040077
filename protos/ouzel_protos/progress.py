"""The progress of a job that has ended, as the worker and the client give it."""

from __future__ import annotations

from typing import Any

from ouzel_protos.v1 import job_pb2 as pb

_FINAL = (pb.Job.SUCCEEDED, pb.Job.FAILED, pb.Job.CANCELLED)


def settled(progress: pb.Progress, state: Any) -> pb.Progress:
    """The progress of a job in a state; while the job has not ended, the progress as it is.

    One that SUCCEEDED has done all steps and has no phase. One that FAILED or was CANCELLED has the phase in which it
    ended, with its steps if their number was known.

    Args:
        progress: As it was reported last.
        state: A `Job.State`.
    """
    if state not in _FINAL:
        return progress
    if state == pb.Job.SUCCEEDED:
        steps = progress.steps or progress.step
        return pb.Progress(step=steps, steps=steps)
    return progress if progress.steps else pb.Progress(phase=progress.phase)
