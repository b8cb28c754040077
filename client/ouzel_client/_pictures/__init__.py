"""The uploaded picture, and saliency maps drawn over it."""
