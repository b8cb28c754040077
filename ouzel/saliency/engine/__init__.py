"""The one pass that all methods of a call share: preparing a network, running it, differentiating, recording."""
