"""Segmentation networks, their backbones and archives, against torchvision's own and plain loops."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ouzel import models
from ouzel.errors import FailedPrecondition, InvalidArgument, NotFound
from ouzel.model_file import archives
from ouzel.models import archive
from ouzel.models.store import ModelStore

from .test_archive import entries_of, write

UNET = "unet:timm:test_resnet"
LABELS = ("background", "cat", "dog")


def seeded(arch: str, classes: int, channels: int = 3) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return models.build(arch, classes, channels)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "unet.safetensors"
    save_file(seeded(UNET, 3).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def made(weights, tmp_path_factory):
    return archive.create("segments", UNET, weights, LABELS, tmp_path_factory.mktemp("store"))


# -- networks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fcn_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"])
def test_torchvisions_networks_answer_what_torchvision_answers(name):
    from torchvision.models import segmentation

    ours = seeded(f"torchvision:{name}", 4)
    theirs = getattr(segmentation, name)(weights=None, weights_backbone=None, num_classes=4).eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x = torch.rand(2, 3, 65, 48, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x)["out"])


@pytest.mark.parametrize(
    "name", ["test_resnet", "test_efficientnet", "test_convnext", "vgg11", "vit_tiny_patch16_224", "swin_s3_tiny_224"]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_unet_answers_at_the_size_of_its_input_over_any_extractor(name, channels):
    network = models.build(f"unet:timm:{name}", 5, channels)
    height, width = models.default_preprocessing(f"unet:timm:{name}").input_size
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert network(torch.zeros(2, channels, height, width)).shape == (2, 5, height, width)


def test_a_unet_takes_sizes_that_its_strides_do_not_divide():
    assert seeded(UNET, 3)(torch.zeros(1, 3, 75, 97)).shape == (1, 3, 75, 97)


@pytest.mark.parametrize("classifier", ["timm:test_resnet", "timm:test_convnext", "timm:tf_efficientnet_lite0"])
def test_a_classifiers_weights_become_the_backbone_by_name(classifier):
    import timm

    state = models.build(classifier, 7).state_dict()
    state = {name: torch.rand_like(t) if t.is_floating_point() else t for name, t in state.items()}
    (arch,) = models.architectures_over(classifier)
    network = models.build(arch, 3)
    models.load_backbone(network, state)
    kept = network.get_submodule("backbone").state_dict()
    assert kept.keys() <= state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in kept.items())
    # Its features are those that timm takes of the classifier itself.
    whole = timm.create_model(classifier.removeprefix("timm:"), num_classes=7)
    whole.load_state_dict(state)
    x = torch.rand(1, 3, 64, 64)
    seen = []
    network.get_submodule("decoder")[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        network(x)
        deepest = whole.eval().forward_intermediates(x, intermediates_only=True)[-1]
    up = torch.nn.functional.interpolate(deepest, size=seen[0].shape[2:], mode="nearest")
    assert torch.equal(seen[0][:, : deepest.shape[1]], up)


@pytest.mark.parametrize("classifier", ["torchvision:mobilenet_v3_large", "torchvision:resnet50"])
def test_torchvisions_classifiers_become_backbones_too(classifier):
    state = models.build(classifier, 7).state_dict()
    arch = models.architectures_over(classifier)[0]
    assert models.task_of(arch) == "segmentation"
    network = models.build(arch, 3)
    models.load_backbone(network, state)
    kept = [t for t in network.get_submodule("backbone").state_dict().values() if t.ndim == 4]
    assert all(any(torch.equal(tensor, each) for each in state.values()) for tensor in kept[:3] + kept[-3:])


def test_a_backbone_that_lacks_something_is_refused_and_left():
    state = models.build("timm:test_resnet", 7).state_dict()
    network = seeded(UNET, 3)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for broken in (
        {name: tensor for name, tensor in state.items() if name != "conv1.0.weight"},
        {**state, "conv1.0.weight": torch.zeros(1)},
    ):
        with pytest.raises(InvalidArgument, match=r"conv1\.0\.weight"):
            models.load_backbone(network, broken)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert models.architectures_over("torchvision:vgg11") == models.architectures_over("keras:resnet50") == ()
    with pytest.raises(InvalidArgument, match="no backbone"):
        models.load_backbone(nn.Linear(1, 1), state)


@pytest.mark.parametrize("classes", [1, 256])
@pytest.mark.parametrize("arch", [UNET, "torchvision:fcn_resnet50"])
def test_a_label_map_has_no_room_for_so_few_or_many_classes(arch, classes):
    with pytest.raises(InvalidArgument, match=f"{classes} classes; .* 2 to 255"):
        models.build(arch, classes)


@pytest.mark.parametrize("arch", ["unet:timm:nothing", "unet:timm:hf-hub:timm/resnet18.a1_in1k", "unet:timm:__class__"])
def test_unknown_backbones(arch):
    with pytest.raises(NotFound):
        models.build(arch)


def test_tasks_of_architectures():
    assert models.task_of("torchvision:lraspp_mobilenet_v3_large") == "segmentation"
    assert models.task_of("torchvision:mobilenet_v3_large") == models.task_of("timm:test_resnet") == "classification"
    assert models.default_preprocessing("torchvision:fcn_resnet50").input_size == (520, 520)
    lite = models.default_preprocessing("unet:timm:tf_efficientnet_lite0")
    assert (lite.input_size, lite.resize, lite.mean) == ((224, 224), 224, (0.5, 0.5, 0.5))


# -- label maps --------------------------------------------------------------------------------------------------------


def test_segments_are_those_of_a_plain_loop():
    logits = torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    logits[0, 1, 0, 0] = logits[0, 2, 0, 0] = 9.0  # of equal ones the first
    logits[:, 3] -= 100  # a class without a pixel
    found = models.segments(logits)
    for row in range(2):
        sure: dict[int, list[float]] = {}
        for y in range(5):
            for x in range(6):
                values = logits[row, :, y, x].tolist()
                best = values.index(max(values))
                assert int(found.label_map[row, y, x]) == best
                sure.setdefault(best, []).append(float(logits[row, :, y, x].softmax(0)[best]))
        for index in range(4):
            pixels = sure.get(index, [])
            assert float(found.areas[row, index]) == pytest.approx(len(pixels) / 30)
            mean = sum(pixels) / len(pixels) if pixels else 0
            assert float(found.confidences[row, index]) == pytest.approx(mean, rel=1e-6)
    assert found.label_map.dtype == torch.uint8


# -- archives ----------------------------------------------------------------------------------------------------------


def test_an_archive_says_what_its_model_is_for(made, weights, tmp_path):
    model = models.load(made)
    assert (model.task, model.card["task"], model.labels) == ("segmentation", "segmentation", LABELS)
    (file,) = archives([made])
    assert (file.task, file.classes, file.error) == ("segmentation", 3, "")
    assert ModelStore(made.parent).show("segments").entry.task == "segmentation"
    named = archive.create("segments", UNET, weights, LABELS, tmp_path, task="segmentation")
    assert named.read_bytes() == made.read_bytes()


def test_a_classifiers_archive_is_what_it_was(tiny_archive):
    assert b'"task"' not in entries_of(tiny_archive)["model.json"]
    assert models.load(tiny_archive).task == "classification"


@pytest.mark.parametrize(
    ("arch", "task", "words"),
    [
        (UNET, "classification", "is a segmentation model, its task is segmentation, not classification"),
        ("timm:test_resnet", "segmentation", "is a classifier, its task is classification, not segmentation"),
        (UNET, "detecting", "is not one of classification, segmentation"),
    ],
)
def test_a_task_that_is_not_the_architectures_is_refused(weights, tmp_path, arch, task, words):
    with pytest.raises(InvalidArgument, match=words) as caught:
        archive.create("wrong", arch, weights, LABELS, tmp_path, task=task)
    assert caught.value.field == "task"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("task", ["classification", "dreaming", 7])
def test_a_card_whose_task_is_not_the_architectures_is_refused(made, tmp_path, task):
    entries = entries_of(made)
    entries["model.json"] = entries["model.json"].replace(b'"task": "segmentation"', b'"task": %a' % task)
    path = write(tmp_path / "segments.mar", {**entries, "model.json": entries["model.json"].replace(b"'", b'"')})
    with pytest.raises(FailedPrecondition, match="task"):
        models.load(path)
    (file,) = archives([path])
    assert ("task" in file.error) == (task != "classification")


def test_weights_of_a_classifier_do_not_make_a_segmentation_model(tiny_weights, tmp_path):
    with pytest.raises(InvalidArgument, match="names do not fit"):
        archive.create("wrong", UNET, tiny_weights, LABELS, tmp_path)


def test_labels_must_be_as_many_as_the_weights_have_classes(weights, tmp_path):
    with pytest.raises(InvalidArgument, match="labels: 4 of them, but the weights tell 3 classes apart"):
        archive.create("wrong", UNET, weights, (*LABELS, "bird"), tmp_path)
    with pytest.raises(InvalidArgument, match=r"labels: 1 classes.*background is the other class"):
        archive.create("wrong", UNET, weights, LABELS[:1], tmp_path)


def test_torchvisions_weights_come_with_a_head_that_is_left_out(tmp_path):
    """torchvision publishes them with the second head that training used."""
    from torchvision.models import segmentation

    theirs = segmentation.fcn_resnet50(weights=None, weights_backbone=None, num_classes=21, aux_loss=True)
    torch.save(theirs.state_dict(), tmp_path / "voc.pth")
    labels = models.read_labels("voc")
    assert (len(labels), labels[0], labels[8]) == (21, "__background__", "cat")
    way = models.default_preprocessing("torchvision:fcn_resnet50").adapted(input_size=(64, 64), resize=64)
    path = archive.create(
        "voc", "torchvision:fcn_resnet50", tmp_path / "voc.pth", "voc", tmp_path / "store", preprocessing=way
    )
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(models.load(path).network(x), theirs.eval()(x)["out"])
