"""Segmentation with the features of a classifier: a class for each pixel, learnt from images with label maps."""
