"""The TorchServe that runs: its management API, the versions of models in it, its log. No torch."""
