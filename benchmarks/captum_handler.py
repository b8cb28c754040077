"""The peer: TorchServe with captum as its users write it today.

`BaseHandler` predicts under inference mode; captum's Saliency then runs its own forward and backward; the answer is a
dict, which TorchServe writes as JSON. The network, its preprocessing and its batch size (which TorchServe would leave
at 1) come from the same archive as ours. The whole attribution travels, (C, H, W), as captum returns it, unless a
row's `map` field asks for the (H, W) map.
"""

import base64
import io

import torch
from captum.attr import Saliency
from PIL import Image
from ts.torch_handler.base_handler import BaseHandler

from ouzel import gpus, models


class CaptumHandler(BaseHandler):
    def initialize(self, context):
        device = "cuda" if gpus.claim_shared() and torch.cuda.is_available() else "cpu"
        self.model = models.load(context.system_properties["model_dir"], device=device)
        # As such handlers do it: the network in eval mode, its parameters as they were loaded.
        self.network = self.model.network.requires_grad_(True)
        self.saliency = Saliency(self.network)
        self.initialized = True

    def preprocess(self, data):
        rows = [row.get("image") or row.get("data") or row.get("body") for row in data]
        # The start of the services asks each model once, in JSON.
        rows = [base64.b64decode(row["image"]) if isinstance(row, dict) else row for row in rows]
        pictures = [Image.open(io.BytesIO(row)).convert("RGB") for row in rows]
        return torch.stack([self.model.preprocessing(picture) for picture in pictures])

    def handle(self, data, context):
        x = self.preprocess(data).to(next(self.network.parameters()).device)
        with torch.inference_mode():
            probabilities = self.network(x).softmax(dim=1)
        best = probabilities.argmax(dim=1)
        attributions = self.saliency.attribute(x, target=best)
        return [
            {
                "label": self.model.labels[int(index)],
                "probability": float(row[index]),
                "saliency": (saliency.amax(dim=0) if "map" in request else saliency).tolist(),
            }
            for request, index, row, saliency in zip(
                data, best.cpu(), probabilities.cpu(), attributions.cpu(), strict=True
            )
        ]
