"""The sink: watches the stream of another service's requests and responses, audits a sample, and raises alerts.

It takes CloudEvents over HTTP as KServe's payload logger sends them, counts each of them durably, and asks a worker to
audit sampled pairs. docs/audit-sink.md is for operators. No torch.
"""
