"""Image classifiers and segmentation models: built by name, kept in archives, fed with images.

    model = models.load("model_store/efficientnet-lite0.mar")
    x = model.preprocessing(models.decode(data, smallest=model.preprocessing.resize))
    logits = model.network(x[None])
    model.labels[int(logits.argmax())]

Networks are in eval mode and frozen from the start. Nothing here ever downloads anything.
"""

from ouzel.images import Limits, decode, from_array, original_size
from ouzel.models.architectures import build, default_preprocessing, doubts, freeze, task_of
from ouzel.models.labels import read_labels
from ouzel.models.model import Model, load
from ouzel.models.networks.axes import Layout
from ouzel.models.networks.copies import own_copy
from ouzel.models.networks.probe import Layer, cam_layer, layers
from ouzel.models.networks.sizes import REFUSALS, check_size, wrong_size
from ouzel.models.networks.tracking import Tracker
from ouzel.models.precision import computing, forward_pass
from ouzel.models.preprocessing import Preprocessing
from ouzel.models.probabilities import entropy, most_entropy, probabilities
from ouzel.models.segmentation import Segments, architectures_over, load_backbone, segments
from ouzel.names import label_index, label_indices

__all__ = [
    "REFUSALS",
    "Layer",
    "Layout",
    "Limits",
    "Model",
    "Preprocessing",
    "Segments",
    "Tracker",
    "architectures_over",
    "build",
    "cam_layer",
    "check_size",
    "computing",
    "decode",
    "default_preprocessing",
    "doubts",
    "entropy",
    "forward_pass",
    "freeze",
    "from_array",
    "label_index",
    "label_indices",
    "layers",
    "load",
    "load_backbone",
    "most_entropy",
    "original_size",
    "own_copy",
    "probabilities",
    "read_labels",
    "segments",
    "task_of",
    "wrong_size",
]
