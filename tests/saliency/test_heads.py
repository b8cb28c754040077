"""Where a network is one that heads can share, and what keeps their logits apart."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ouzel.saliency import Explainer, Saliency
from ouzel.saliency.engine.heads import Head, Headed, Heads, SharedHead, answering, install

EXAMPLE = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Ends in its linear layer; or goes on after it, asks it twice, or asks it for each place."""

    def __init__(self, ending: str = "") -> None:
        super().__init__()
        self.conv, self.fc, self.last, self.ending = nn.Conv2d(3, 4, 3), nn.Linear(4, 3), nn.Identity(), ending

    def forward(self, x: Tensor) -> Tensor:
        features = self.conv(x).relu()
        if self.ending == "places":
            return self.fc(features.flatten(2).mT).mean(dim=1)
        pooled = features.mean(dim=(2, 3))
        logits = self.fc(pooled)
        if self.ending == "twice":
            return self.fc(pooled * 2)
        return {"scaled": logits * 2, "softmax": logits.log_softmax(1)}.get(self.ending, self.last(logits))


def net(ending: str = "") -> Net:
    torch.manual_seed(3)
    return Net(ending).eval().requires_grad_(False)


def head(classes: int, seed: int) -> Head:
    generator = torch.Generator().manual_seed(seed)
    return Head(torch.randn(classes, 4, generator=generator), torch.randn(classes, generator=generator))


@pytest.mark.parametrize("ending", ["places", "twice", "scaled", "softmax"])
def test_a_network_whose_answer_is_not_what_its_head_gives_is_not_shared(ending: str) -> None:
    network = net(ending)
    before = network(EXAMPLE)
    assert install(network, "fc", EXAMPLE) is None
    assert type(network.fc) is nn.Linear
    assert torch.equal(network(EXAMPLE), before)


def test_a_shared_network_is_as_before_and_with_a_head_as_with_that_layer() -> None:
    network, plain = net(), net()
    installed = install(network, "fc", EXAMPLE)
    assert installed is not None
    assert installed.after == {"", "fc", "last"}
    assert torch.equal(network(EXAMPLE), plain(EXAMPLE))
    assert repr(network) == repr(plain)
    other = head(5, 1)
    plain.fc = nn.Linear(4, 5).requires_grad_(False)
    plain.fc.weight.copy_(other.weight)
    plain.fc.bias.copy_(other.bias)
    x = torch.rand(4, 3, 8, 8)
    assert torch.equal(Headed(network, other)(x), plain(x))


def test_rows_of_several_heads_have_their_own_logits_and_probabilities() -> None:
    few, one, many = head(2, 1), head(1, 2), head(6, 3)
    rows = [many, few, one, few, many]
    features = torch.randn(5, 4)
    heads = Heads.of(rows)
    logits = heads.logits(features)
    probabilities = heads.probabilities(logits)
    assert logits.shape == probabilities.shape == (5, 6)
    assert logits.isfinite().all()
    for row, each in enumerate(rows):
        own = F.linear(features[row : row + 1], each.weight, each.bias)[0]
        torch.testing.assert_close(logits[row, : each.classes], own)
        right = own.sigmoid() if each.classes == 1 else own.softmax(0)
        torch.testing.assert_close(probabilities[row, : each.classes], right)
        assert not probabilities[row, each.classes :].any()
        assert int(logits[row].argmax()) < each.classes
    part = heads.chosen([2, 2])  # narrower than the batch, as wide as before
    torch.testing.assert_close(part.logits(features[[2, 2]]), logits[[2, 2]])


def test_a_pass_that_does_not_ask_its_heads_is_an_error() -> None:
    """Or it asks with other rows than it has heads for: the answer would be another model's."""
    heads = Heads.of([head(2, 1)])
    with pytest.raises(RuntimeError, match="asked its heads 0 times"), answering(heads):
        net()(EXAMPLE)
    layer = SharedHead.of(nn.Linear(4, 3))
    with pytest.raises(RuntimeError, match="asked its heads 2 times"), answering(heads):
        nn.Sequential(layer, nn.ConstantPad1d((0, 2), 0), layer)(torch.zeros(1, 4))
    with pytest.raises(RuntimeError, match="3 rows of features for 1 heads"), answering(heads):
        layer(torch.zeros(3, 4))
    assert layer(torch.zeros(3, 4)).shape == (3, 3)


def test_the_explainer_takes_requests_as_well_as_plans() -> None:
    network = net()
    assert install(network, "fc", EXAMPLE) is not None
    explainer = Explainer(network)
    x = torch.rand(3, 3, 8, 8)
    rows = [head(2, 1), head(5, 2), head(2, 1)]
    wanted = [Saliency("gradient", target=1)]
    maps = explainer.forward(x, [wanted] * 3, heads=rows).explain()
    for number, each in enumerate(rows):
        (own,) = Explainer(Headed(network, each))(x[number : number + 1], wanted).maps
        (mine,) = maps[number]
        torch.testing.assert_close(mine.values, own.values[0])
