"""From images to activations and back: the network up to the nodes' layers, and the gradients of the objective."""
