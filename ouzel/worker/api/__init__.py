"""The gRPC services: requests checked, owners told apart, events streamed."""
