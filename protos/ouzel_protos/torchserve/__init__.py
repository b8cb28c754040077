"""The part of TorchServe's gRPC inference API that Ouzel speaks."""

PREDICTIONS = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"
