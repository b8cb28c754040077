"""Jobs: long work that is accepted once it is durable, runs in processes of its own, and survives their death.

`store` keeps the truth, `runner` claims jobs and supervises their processes, `kinds` say what a job does, `artifacts`
holds what came out. No part of this package imports torch, except inside a job's own process.
"""
