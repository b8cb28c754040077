"""The agent beside a TorchServe: it has TorchServe serve what a model store that many machines share says. No torch."""
