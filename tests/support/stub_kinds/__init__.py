"""Kinds of jobs without torch: processes that start at once, and behave as their spec says."""

LIBRARIES = ("ouzel.worker.processes.job_process", "ouzel.worker.store.sqlite", f"{__name__}.maximize")
