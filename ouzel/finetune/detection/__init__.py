"""Detectors from a classifier and images with boxes.

examples, classes = boxed_from_folder("street/")            # boxes.csv, or annotations.json of COCO
made = detect(models.load("model_store/efficientnet-lite0.mar"), examples, classes)
made.test.map, made.test.map50
made.archive("model_store/street.mar", "street")
"""

from ouzel.finetune.detection.annotations import Boxed, boxed_from_folder
from ouzel.finetune.detection.average_precision import AveragePrecision, Objects, average_precision
from ouzel.finetune.detection.detect import Detected, Epoch, detect
from ouzel.finetune.detection.options import DetectOptions

__all__ = [
    "AveragePrecision",
    "Boxed",
    "DetectOptions",
    "Detected",
    "Epoch",
    "Objects",
    "average_precision",
    "boxed_from_folder",
    "detect",
]
