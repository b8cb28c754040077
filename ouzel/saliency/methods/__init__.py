"""The saliency methods, one per file."""
