"""The worker's services behind the front door: handed on over gRPC, and spoken as JSON over REST."""
