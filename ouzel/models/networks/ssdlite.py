"""SSDlite over the features of a classifier of timm."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from ouzel.models.networks.detectors import OneStage, Rules

FINEST, COARSEST = 16, 32  # strides of the classifier's features that are used, as SSDlite has them
EXTRA = (512, 256, 256, 128)  # channels of the levels after the classifier's
# As torchvision's SSDlite has them.
RULES = Rules(0.001, 0.55, 300, group="class", candidates=300)
SCALES = (0.2, 0.95)
ASPECTS = (2, 3)


class Features(nn.Module):
    """Feature maps of six levels: those of the classifier from a stride of 16 on, then ever smaller ones.

    `model` is the classifier of timm without its head; the names below `backbone.model.` are those that it has.

    Args:
        model: A network of timm with `forward_intermediates`.
        indices: Which of its intermediate features are used, the finest first.
        channels: Of the last.
    """

    def __init__(self, model: nn.Module, indices: Sequence[int], channels: int) -> None:
        super().__init__()
        self.model, self._indices = model, list(indices)
        widths = [channels, *EXTRA]
        norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
        self.extra = nn.ModuleList(_Smaller(before, after, norm) for before, after in pairwise(widths))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """The levels, the finest first."""
        levels = list(
            self.model.forward_intermediates(  # type: ignore[operator]  # a method of timm's networks
                x, indices=self._indices, norm=False, output_fmt="NCHW", intermediates_only=True
            )
        )
        for block in self.extra:
            levels.append(block(levels[-1]))
        return OrderedDict((str(number), level) for number, level in enumerate(levels))


class _Smaller(nn.Sequential):
    """Half the height and width: SSDlite's extra layers, with a depthwise convolution."""

    def __init__(self, before: int, after: int, norm: Any) -> None:
        from torchvision.ops.misc import Conv2dNormActivation

        between, act = after // 2, nn.ReLU6
        super().__init__(
            Conv2dNormActivation(before, between, kernel_size=1, norm_layer=norm, activation_layer=act),
            Conv2dNormActivation(between, between, 3, 2, groups=between, norm_layer=norm, activation_layer=act),
            Conv2dNormActivation(between, after, kernel_size=1, norm_layer=norm, activation_layer=act),
        )


class _Parts(nn.Module):
    """What `OneStage` takes from a network of torchvision."""

    def __init__(self, backbone: nn.Module, head: nn.Module, anchors: nn.Module) -> None:
        from torchvision.models.detection._utils import BoxCoder

        super().__init__()
        self.backbone, self.head, self.anchor_generator = backbone, head, anchors
        self.box_coder = BoxCoder(weights=(10.0, 10.0, 5.0, 5.0))


def over_timm(name: str, num_classes: int, in_channels: int) -> OneStage:
    """SSDlite over a classifier of timm, with random weights.

    Args:
        name: Of the classifier, as timm has it.
        num_classes: K, the background included.
        in_channels: C.

    Raises:
        TypeError: timm gives no features of this network.
        RuntimeError: The same.

    References:
        Liu et al. 2016, "SSD: Single shot multibox detector", arXiv 1512.02325; Sandler et al. 2018, "MobileNetV2",
        arXiv 1801.04381, for the depthwise heads.
    """
    import timm
    from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
    from torchvision.models.detection.ssdlite import SSDLiteHead

    features: Any = timm.create_model(
        name, pretrained=False, in_chans=in_channels, features_only=True, feature_cls="getter"
    )
    if not hasattr(features.model, "forward_intermediates"):
        raise TypeError(f"timm's {name} gives no intermediate features")
    strides = features.feature_info.reduction()
    used = [n for n, stride in enumerate(strides) if FINEST <= stride <= COARSEST] or [len(strides) - 1]
    channels = [features.feature_info.channels()[n] for n in used]
    indices = [features.out_indices[n] for n in used]
    backbone = Features(features.model, indices, channels[-1])
    levels = [*channels, *EXTRA]
    anchors = DefaultBoxGenerator([list(ASPECTS) for _ in levels], min_ratio=SCALES[0], max_ratio=SCALES[1])
    norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
    head = SSDLiteHead(levels, anchors.num_anchors_per_location(), num_classes, norm)
    shared = f"backbone.model.{features.feature_info.module_name()[used[0]]}"
    return OneStage(_Parts(backbone, head, anchors), num_classes, background=True, rules=RULES, shared=shared)
