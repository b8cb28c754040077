"""Segmentation with the features of a classifier: a class for each pixel, learnt from images with label maps.

base = models.load("model_store/efficientnet-lite0.mar")
examples, classes = masked_from_folder("street/")
made = segment(base, examples, classes)
made.test.miou, made.test.interval
"""

from ouzel.finetune.segmentation.data import masked, masked_from_folder
from ouzel.finetune.segmentation.metrics import PixelScore
from ouzel.finetune.segmentation.segment import segment
from ouzel.finetune.segmentation.segmented import Segmented

__all__ = ["PixelScore", "Segmented", "masked", "masked_from_folder", "segment"]
