"""Networks by name, `torchvision:resnet50` or `timm:tf_efficientnet_lite0`: random weights, eval, frozen, offline.

A name belongs to one task: `torchvision:fcn_resnet50` and `unet:timm:tf_efficientnet_lite0` segment images,
`torchvision:retinanet_resnet50_fpn` and `ssdlite:timm:tf_efficientnet_lite0` detect objects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from ouzel.checks import did_you_mean
from ouzel.errors import InvalidArgument, NotFound
from ouzel.models import detection, published
from ouzel.models.networks import dense, detectors, ssdlite, unet
from ouzel.models.preprocessing import INTERPOLATIONS, Preprocessing
from ouzel.models.segmentation import check_count
from ouzel.task_names import CLASSIFICATION, DETECTION, SEGMENTATION, Task, kind_of


@dataclass(frozen=True)
class _Family:
    """Architectures of one task that a library has. prefix: before their names."""

    prefix: str
    task: Task
    names: Callable[[], Sequence[str]]
    create: Callable[[str, int, int], nn.Module]
    preprocessing: Callable[[str], Preprocessing | None]


def build(arch: str, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """Build the named network with random weights, in eval mode, with `requires_grad` off everywhere.

    Weights are never downloaded.

    Args:
        arch: `torchvision:NAME` (its image classifiers, segmentation networks, SSDs, RetinaNets and Faster R-CNNs),
            `timm:NAME`, or `unet:timm:NAME` and `ssdlite:timm:NAME`, a U-Net and an SSDlite over the features of that
            classifier.
        num_classes: K, 1 to 1,000,000; of a segmentation network 2 to 255, of a detector 2 to 1000.
        in_channels: C, 1 to 64.

    Returns:
        A network from (B, C, H, W) to logits (B, K); of a segmentation network (B, K, H, W); of a detector to its
        candidates, see `ouzel.models.networks.detectors`.

    Raises:
        InvalidArgument: The name has another form, or the architecture cannot have so many classes or channels.
        NotFound: There is no architecture of that name; near names are told.
    """
    for field, value, most in (("num_classes", num_classes, 1_000_000), ("in_channels", in_channels, 64)):
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            raise InvalidArgument(f"{field}: {value!r} is not an integer from 1 to {most}", field=field)
    family, name = _find(arch)
    if family.task == SEGMENTATION:
        check_count(num_classes, "num_classes")
    if family.task == DETECTION:
        detection.check_count(num_classes, "num_classes")
    try:
        return freeze(family.create(name, num_classes, in_channels))
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise InvalidArgument(
            f"arch: {arch} cannot have {num_classes} classes and {in_channels} channels ({error})", field="arch"
        ) from error


def freeze(network: nn.Module) -> nn.Module:
    """The same network in eval mode and with no parameter that asks for a gradient."""
    return network.eval().requires_grad_(False)


def default_preprocessing(arch: str, weights: str | Path | None = None) -> Preprocessing:
    """What the library of the architecture publishes for its own weights, else 256/224 with ImageNet's statistics.

    Where timm stretches images to a square ("squash"), the middle is cut out all the same.

    Args:
        arch: As of `build`.
        weights: The file of weights. torchvision has several ones of some classifiers, fed in different ways; if this
            is one of its files, its own way is meant, else that of the default weights.

    Raises:
        InvalidArgument: The name has another form.
        NotFound: There is no architecture of that name.
    """
    family, name = _find(arch)
    if weights is not None and family.preprocessing is _torchvision_preprocessing:
        return published.way_of_torchvision(name, weights)
    return family.preprocessing(name) or Preprocessing()


def doubts(arch: str, weights: str | Path) -> str:
    """What nobody can know of how weights of an architecture are to be fed, in sentences; "" if there is no doubt.

    Takes and raises what `default_preprocessing` does.
    """
    family, name = _find(arch)
    if family.preprocessing is _timm_preprocessing:
        return published.doubt_of_timm(name)
    return published.doubt_of_torchvision(name, weights) if family.preprocessing is _torchvision_preprocessing else ""


def task_of(arch: str) -> Task:
    """What networks of an architecture are for. Raises as `default_preprocessing`."""
    return _find(arch)[0].task


def check_task_of(arch: str, task: Task) -> None:
    """Check that networks of an architecture are for a task.

    Raises:
        InvalidArgument: They are for another one, or the name has another form.
        NotFound: There is no architecture of that name.
    """
    own = task_of(arch)
    if own != task:
        raise InvalidArgument(f"task: {arch} is {kind_of(own)}, its task is {own}, not {task}", field="task")


def _find(arch: str) -> tuple[_Family, str]:
    prefixes = dict.fromkeys(family.prefix for family in _FAMILIES)
    fits = [prefix for prefix in prefixes if isinstance(arch, str) and arch.startswith(f"{prefix}:")]
    if not fits:
        known = " or ".join(f"{prefix}:NAME" for prefix in prefixes)
        raise InvalidArgument(f"arch: {arch!r} is not of the form {known}", field="arch")
    prefix = fits[0]  # none begins another one
    name = arch.removeprefix(f"{prefix}:")
    families = [family for family in _FAMILIES if family.prefix == prefix]
    for family in families:
        if name in family.names():  # also keeps out timm's "hf-hub:..." and "local-dir:...", which load from elsewhere
            return family, name
    names = [each for family in families for each in family.names()]
    hint = did_you_mean(name, names, prefix=f"{prefix}:")
    raise NotFound(f"arch: {prefix} has no network named {name!r}{hint}", field="arch")


# -- torchvision ------------------------------------------------------------------------------------------------------


def _torchvision_names() -> Sequence[str]:
    from torchvision import models

    names: list[str] = models.list_models(module=models)
    return names


def _torchvision_create(name: str, num_classes: int, in_channels: int) -> nn.Module:
    from torchvision import models

    # inception_v3 and googlenet warn of, or run, a slow initialisation unless told; the weights are replaced anyway
    options: dict[str, Any] = {"init_weights": False} if name in ("inception_v3", "googlenet") else {}
    network: nn.Module = models.get_model(name, weights=None, num_classes=num_classes, **options)
    if in_channels != 3:
        _replace_first_convolution(network, in_channels)
    return network


def _replace_first_convolution(network: nn.Module, in_channels: int) -> None:
    """Swap the first convolution of a network for colour images, as torchvision has them, for one of other channels."""
    name, old = next((name, m) for name, m in network.named_modules() if isinstance(m, nn.Conv2d))
    # torch types these as tuples of any length, or as a text; of a Conv2d they are what its constructor takes.
    geometry: dict[str, Any] = {key: getattr(old, key) for key in ("kernel_size", "stride", "padding", "dilation")}
    new = nn.Conv2d(in_channels, old.out_channels, bias=old.bias is not None, **geometry)
    network.set_submodule(name, new)


def _torchvision_preprocessing(name: str) -> Preprocessing | None:
    return next(iter(published.ways_of_torchvision(name).values()))


# -- timm -------------------------------------------------------------------------------------------------------------


def _timm_names() -> Sequence[str]:
    import timm

    names: list[str] = timm.list_models()
    return names


def _timm_create(name: str, num_classes: int, in_channels: int) -> nn.Module:
    import timm

    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=num_classes, in_chans=in_channels)
    return network


def _timm_preprocessing(name: str) -> Preprocessing | None:
    import timm

    own = timm.get_pretrained_cfg(name)
    if own is None:
        return None
    channels, height, width = own.input_size
    interpolation = own.interpolation
    return Preprocessing(
        channels=channels,
        input_size=(height, width),
        resize=max(int(min(height, width) / own.crop_pct), height, width),
        interpolation=interpolation if interpolation in INTERPOLATIONS else "bilinear",
        mean=tuple(own.mean),
        std=tuple(own.std),
    )


# -- segmentation -----------------------------------------------------------------------------------------------------


def _dense_names() -> Sequence[str]:
    from torchvision import models

    names: list[str] = models.list_models(module=models.segmentation)
    return names


def _dense_create(name: str, num_classes: int, in_channels: int) -> nn.Module:
    from torchvision import models

    # Weights of the backbone would be downloaded unless told otherwise.
    network = models.get_model(name, weights=None, weights_backbone=None, num_classes=num_classes)
    if in_channels != 3:
        _replace_first_convolution(network, in_channels)
    return dense.Dense(network)


def _dense_preprocessing(name: str) -> Preprocessing | None:
    from torchvision import models

    own = models.get_model_weights(name).DEFAULT.transforms()
    edge = own.resize_size[0]
    return Preprocessing(
        input_size=(edge, edge),
        resize=edge,
        interpolation=own.interpolation.value,
        mean=tuple(own.mean),
        std=tuple(own.std),
    )


def _unet_preprocessing(name: str) -> Preprocessing | None:
    """That of the classifier, but for the margin that classifiers leave out of sight."""
    own = _timm_preprocessing(name)
    return None if own is None else replace(own, resize=max(own.input_size))


# -- detection --------------------------------------------------------------------------------------------------------

# (edge of the input, mean, deviation) where they are not those of torchvision's larger detectors.
_DETECTORS: dict[str, tuple[int, tuple[float, ...], tuple[float, ...]]] = {
    "ssdlite320_mobilenet_v3_large": (320, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "ssd300_vgg16": (300, (0.48235, 0.45882, 0.40784), (1 / 255, 1 / 255, 1 / 255)),
    "fasterrcnn_mobilenet_v3_large_320_fpn": (320, Preprocessing().mean, Preprocessing().std),
}


def _detector_names() -> Sequence[str]:
    from torchvision import models

    names: list[str] = models.list_models(module=models.detection)
    return [name for name in names if name.startswith(("ssd", "retinanet", "fasterrcnn"))]


def _detector_create(name: str, num_classes: int, in_channels: int) -> nn.Module:
    network = detectors.of_torchvision(name, num_classes)
    if in_channels != 3:
        _replace_first_convolution(network, in_channels)
    return network


def _detector_preprocessing(name: str) -> Preprocessing | None:
    """Stretched to a square: what is at the edges is seen, too."""
    edge, mean, std = _DETECTORS.get(name, (800, Preprocessing().mean, Preprocessing().std))
    return Preprocessing(input_size=(edge, edge), resize=edge, mean=mean, std=std, fit="stretch")


def _ssdlite_preprocessing(name: str) -> Preprocessing | None:
    """The classifier's colours, at the size of SSDlite."""
    own = _timm_preprocessing(name) or Preprocessing()
    edge = max(320, *own.input_size)
    return replace(own, input_size=(edge, edge), resize=edge, fit="stretch")


_FAMILIES = (
    _Family("torchvision", CLASSIFICATION, _torchvision_names, _torchvision_create, _torchvision_preprocessing),
    _Family("torchvision", SEGMENTATION, _dense_names, _dense_create, _dense_preprocessing),
    _Family("timm", CLASSIFICATION, _timm_names, _timm_create, _timm_preprocessing),
    _Family("unet:timm", SEGMENTATION, _timm_names, unet.over_timm, _unet_preprocessing),
    _Family("torchvision", DETECTION, _detector_names, _detector_create, _detector_preprocessing),
    _Family("ssdlite:timm", DETECTION, _timm_names, ssdlite.over_timm, _ssdlite_preprocessing),
)
