"""Detectors with the features of a classifier: boxes of objects, learnt from images with boxes.

base = models.load("model_store/efficientnet-lite0.mar")
examples, classes = boxed_from_folder("street/")            # images/, and boxes.csv or annotations.json
made = detect(base, examples, classes)
made.test.map, made.test.interval, made.test.map50
"""

from ouzel.finetune.detection.average_precision import AveragePrecision, Objects, average_precision
from ouzel.finetune.detection.data import boxed, boxed_from_folder
from ouzel.finetune.detection.detect import detect
from ouzel.finetune.detection.detected import Detected
from ouzel.finetune.detection.score import BoxScore

__all__ = [
    "AveragePrecision",
    "BoxScore",
    "Detected",
    "Objects",
    "average_precision",
    "boxed",
    "boxed_from_folder",
    "detect",
]
