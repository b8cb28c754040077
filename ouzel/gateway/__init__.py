"""The front door: one port for gRPC, one for REST."""
