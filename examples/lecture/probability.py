"""Gradient of the logit and of the probability, where the network is certain.

    python examples/lecture/probability.py    # docs/lecture/probability.jpg

Both from the digits network: with a softmax behind it, the gradient that Ouzel takes is that of the probability.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from common import digits, digits_network, main, save
from matplotlib import pyplot as plt
from torch import nn

from ouzel.saliency import Explainer, Saliency

COUNT = 500


def draw(path: Path, epochs: int = 3) -> None:
    images, classes = digits()
    network = digits_network(images, classes, epochs)
    images = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:COUNT]]
    of_logit = Explainer(network)(images, [Saliency("gradient")])
    of_probability = Explainer(nn.Sequential(network, nn.Softmax(1)))(images, [Saliency("gradient")]).maps[0].values
    maps = of_logit.maps[0].values, of_probability
    doubt = 1 - of_logit.logits.double().softmax(1).amax(1)  # float32 has no number between 1 - 6e-8 and 1
    sure = int(doubt.argmin())
    peaks = [each.flatten(1).amax(1) for each in maps]

    figure, places = plt.subplots(1, 4, figsize=(10, 2.9), width_ratios=(1, 1, 1, 1.6))
    places[0].imshow(images[sure, 0], cmap="gray")
    p = float(of_logit.logits[sure].softmax(0).amax())
    places[0].set_title(f"p = {p:.7f} in float32\n1 - p = {float(doubt[sure]):.0e}", fontsize=9)
    full = float(peaks[0][sure])
    for place, one, peak, name in zip(places[1:3], maps, peaks, ("logit", "probability"), strict=True):
        place.imshow(one[sure], cmap="gray", vmin=0, vmax=full)
        place.set_title(f"of the {name}\nlargest value {float(peak[sure]):.1e}", fontsize=9)
    for place in places[:3]:
        place.set(xticks=[], yticks=[])
    for peak, name, colour in zip(peaks, ("logit", "probability"), ("#3b76af", "#d98f2b"), strict=True):
        places[3].loglog(doubt, peak.clamp(min=1e-45), ".", ms=3, label=f"of the {name}", color=colour)
    places[3].set_xlabel("1 - p, of the predicted class", fontsize=8)
    places[3].set_ylabel(f"largest gradient, {COUNT} digits", fontsize=8)
    places[3].tick_params(labelsize=7)
    places[3].legend(fontsize=8, frameon=False)
    places[3].spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    zero = int((peaks[1] == 0).sum())
    print(
        f"of {COUNT} digits, {zero} have no gradient of the probability at all; {np.sum(doubt.numpy() < 1e-4)} with "
        "1 - p below 1e-4"
    )
    save(path, figure)


if __name__ == "__main__":
    main(draw, "probability.jpg", __doc__)
