"""What the processes of Ouzel tell of themselves: numbers, traces, and lines in a log. Without torch, grpc and wires.

`metrics`: a process's registry, and the port that it is read at. `tracing`: spans of OpenTelemetry, off unless
configured. `logs`: lines of text or of JSON. `request_ids`: the id by which a call is found again.
"""
