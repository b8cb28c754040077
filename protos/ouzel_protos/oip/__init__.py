"""The Open Inference Protocol, version 2: messages, and where its methods are."""

SERVICE = "inference.GRPCInferenceService"
MODEL_METADATA = f"/{SERVICE}/ModelMetadata"
MODEL_INFER = f"/{SERVICE}/ModelInfer"
