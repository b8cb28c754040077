"""The part of the Open Inference Protocol that Ouzel uses: a model's description, and its predictions."""

MODEL_METADATA = "/inference.GRPCInferenceService/ModelMetadata"
MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
