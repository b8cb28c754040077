"""Segmentation models behind the service: label maps, regions in pixels of the image, refusals."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ouzel.explain import PNG, ExplainService, Limits, RawRequest
from ouzel.explain.recording import facts
from ouzel.models import Model
from ouzel.saliency import Box, Contrast, Explainer, Mask, Pixel, Rank, Saliency, Within
from ouzel_protos import tensors
from ouzel_protos.v1 import explain_pb2 as pb
from support import segmenters
from support.segmenters import LABELS, SIZE

HALF = 2  # pixels of a picture along one of the model's


@pytest.fixture(scope="module")
def model() -> Model:
    return segmenters.model()


@pytest.fixture(scope="module")
def service(model: Model) -> ExplainService:
    return ExplainService(model)


@pytest.fixture(scope="module")
def explainer(model: Model) -> Explainer:
    return Explainer(model)


def file(picture: np.ndarray, mode: str | None = None) -> bytes:
    out = io.BytesIO()
    image = Image.fromarray(picture)
    (image.convert(mode) if mode else image).save(out, "PNG")
    return out.getvalue()


def ask(service: ExplainService, options: object = None, seed: int = 0, **size: int) -> pb.Explanation:
    return answers(service, [(options, file(segmenters.picture(seed, **size)))])[0]


def answers(service: ExplainService, asked: list[tuple[object, bytes]]) -> list[pb.Explanation]:
    rows = [
        RawRequest(
            image=image,
            options=raw.SerializeToString() if isinstance(raw, pb.ExplainOptions) else json.dumps(raw or {}),
        )
        for raw, image in asked
    ]
    return [reply.envelope for reply in service.answer(rows)]


def plain(model: Model, seed: int = 0, **size: int) -> tuple[Tensor, Tensor]:
    """Input and logits of one picture."""
    x = model.preprocessing(Image.fromarray(segmenters.picture(seed, **size)))[None]
    with torch.no_grad():
        return x, model.network(x)[0]


def told(answer: pb.Explanation) -> np.ndarray:
    assert not answer.HasField("error"), answer.error.message
    return tensors.decode(answer.segmentation.label_map)


# -- the prediction ----------------------------------------------------------------------------------------------------


def test_label_map_areas_and_confidences(service: ExplainService, model: Model) -> None:
    answer = ask(service)
    _, logits = plain(model)
    found = told(answer)
    assert (found.dtype, found.shape) == (np.uint8, (SIZE, SIZE))
    best = logits.argmax(dim=0).numpy()
    assert (found != best).mean() < 1e-3  # folded BatchNorms round otherwise
    probabilities = logits.softmax(dim=0).numpy()
    there = [index for index in range(1, 4) if (best == index).any()]
    assert [each.index for each in answer.segmentation.classes] == [
        *sorted(there, key=lambda index: -int((found == index).sum())),
        0,  # the background is the last of those that are there
    ]
    for each in answer.segmentation.classes:
        assert each.label == LABELS[each.index]
        assert each.area == pytest.approx(float((found == each.index).mean()))
        assert each.confidence == pytest.approx(float(probabilities[each.index][found == each.index].mean()), rel=1e-3)
    assert sum(each.area for each in answer.segmentation.classes) == pytest.approx(1)
    assert not answer.scores
    assert answer.model.task == "segmentation"
    assert len(ask(service, {"top_k": 2}).segmentation.classes) == 2


def test_the_original_size_has_the_class_of_each_pixel_and_none_outside(service: ExplainService) -> None:
    size = {"width": 201, "height": 100}
    small = ask(service, seed=1, **size)
    large = told(ask(service, {"label_map_size": "original"}, seed=1, **size))
    values, view = told(small), small.view
    left, right, top, bottom = round(view.left), round(view.right), round(view.top), round(view.bottom)
    assert large.shape == (100, 201)
    for y in range(0, 100, 7):
        for x in range(201):
            seen = left <= x < right and top <= y < bottom
            row, column = (y + 0.5 - top) * SIZE / (bottom - top), (x + 0.5 - left) * SIZE / (right - left)
            assert large[y, x] == (values[int(row), int(column)] if seen else 255)
    assert (large == 255).any()


def test_a_tensor_is_its_own_image(service: ExplainService, model: Model) -> None:
    x, _ = plain(model)
    options = json.dumps({"saliency": [{"method": "gradient", "target": {"class": 1, "pixel": [63, 0]}}]})
    tensor = tensors.encode(x[0].numpy()).SerializeToString()
    (reply,) = service.answer([RawRequest(tensor=tensor, options=options)])
    assert (reply.envelope.segmentation.label_map.data) == told(ask(service)).tobytes()
    assert reply.envelope.saliency[0].target.region == "pixel"


# -- targets -----------------------------------------------------------------------------------------------------------


def half_of(mask: np.ndarray) -> np.ndarray:
    """At least half of each block of four belongs to it."""
    return mask.reshape(SIZE, HALF, SIZE, HALF).mean(axis=(1, 3)) >= 0.5


MASK = np.zeros((2 * SIZE, 2 * SIZE), np.uint8)
MASK[20:45, 31:70] = 255
MASK[100, 100] = 1  # a quarter of a pixel of the model
IN_BASE64 = base64.b64encode(file(MASK)).decode()


@pytest.mark.parametrize(
    ("asked", "target", "region"),
    [
        (None, None, "predicted"),
        ("sheep", 1, "predicted"),
        ({"rank": 1}, Rank(1), "predicted"),
        ({"contrast": ["goat", 3]}, Contrast(2, 3), "predicted"),
        ({"class": "goat", "box": [10, 20, 31, 60.5]}, Within(2, Box(5, 10, 16, 31)), "box"),
        ({"box": [0, 0, 128, 128]}, Within(None, Box(0, 0, SIZE, SIZE)), "box"),
        ({"pixel": [127, 3]}, Within(None, Pixel(63, 1)), "pixel"),
        ({"contrast": [1, 2], "pixel": [0, 0]}, Within(Contrast(1, 2), Pixel(0, 0)), "pixel"),
        ({"class": "rock", "mask": IN_BASE64}, Within(3, Mask.of(half_of(MASK > 0))), "mask"),
        ({"rank": 2, "mask": IN_BASE64}, Within(Rank(2), Mask.of(half_of(MASK > 0))), "mask"),
    ],
)
@pytest.mark.parametrize("method", ["gradient", "grad_cam"])
def test_targets_are_those_of_the_engine(
    service: ExplainService, explainer: Explainer, model: Model, asked: object, target: object, region: str, method: str
) -> None:
    answer = ask(service, {"saliency": [{"method": method, **({} if asked is None else {"target": asked})}]})
    told(answer)
    x, _ = plain(model)
    (wanted,) = explainer(x, [Saliency(method, target)]).maps  # type: ignore[arg-type]
    (made,) = answer.saliency
    assert isinstance(wanted.target, tuple)
    assert (made.target.index, made.target.region) == (wanted.target[0].index, region)
    assert made.target.region_area == pytest.approx(wanted.target[0].area, abs=2e-3)
    largest = float(wanted.values.abs().max())
    np.testing.assert_allclose(tensors.decode(made.values), wanted.values[0].numpy(), atol=0.02 * largest)


def test_messages_and_json_agree(service: ExplainService) -> None:
    box = pb.Region(box=pb.Region.Box(left=1, top=2, right=90, bottom=60.5))
    raw = tensors.encode(MASK > 0)
    message = pb.ExplainOptions(
        label_map_size=pb.ORIGINAL_IMAGE,
        saliency=[
            pb.SaliencyRequest(method="gradient", target=pb.Target(index=1, region=box)),
            pb.SaliencyRequest(method="gradient", target=pb.Target(label="goat", region=pb.Region(mask=raw))),
        ],
    )
    document = {
        "label_map_size": "original",
        "saliency": [
            {"method": "gradient", "target": {"class": 1, "box": [1, 2, 90, 60.5]}},
            {"method": "gradient", "target": {"class": "goat", "mask": IN_BASE64}},
        ],
    }
    first, second = ask(service, message), ask(service, document)
    for each in (first, second):
        told(each)
        each.ClearField("timing")
    assert first == second


@pytest.mark.parametrize("method", ["gradient", "rise", "occlusion"])
def test_rows_of_a_batch_are_what_they_are_alone(service: ExplainService, method: str) -> None:
    more = {"masks": 8} if method == "rise" else {}
    targets: list[object] = [{"class": 1, "pixel": [3, 3]}, {"mask": IN_BASE64}, {"rank": 1}, {"box": [8, 8, 20, 90]}]
    asked = [
        ({"saliency": [{"method": method, "target": target, **more}]}, file(segmenters.picture(seed)))
        for seed, target in enumerate(targets)
    ]
    together = answers(service, asked)
    for row, one in zip(together, (answers(service, [each])[0] for each in asked), strict=True):
        assert (told(row) != told(one)).mean() < 1e-3
        assert row.saliency[0].target.index == one.saliency[0].target.index
        largest = one.saliency[0].maximum
        values = [tensors.decode(each.saliency[0].values) for each in (row, one)]
        np.testing.assert_allclose(*values, atol=0.02 * largest)


def test_a_class_that_is_nowhere_is_its_rows_own_fault(model: Model) -> None:
    without = segmenters.network()
    with torch.no_grad():
        without.get_submodule("head").bias[2] -= 1000
    service = ExplainService(Model(**{**vars(model), "network": without}))
    image = file(segmenters.picture(0))
    asked = [({"saliency": [{"method": "gradient", "target": target}]}, image) for target in ("goat", "rock")]
    first, second = answers(service, asked)
    assert first.error.field == "saliency[0].target"
    assert "class 2 'goat' is predicted nowhere in this image" in first.error.message
    assert second.saliency[0].target.label == "rock"


def test_faithfulness_is_of_the_mean_probability_over_the_region(service: ExplainService, model: Model) -> None:
    target = {"class": 1, "box": [20, 20, 60, 60]}
    answer = ask(service, {"saliency": [{"method": "gradient", "target": target, "faithfulness": 2}]})
    told(answer)
    x, _ = plain(model)
    values = torch.from_numpy(tensors.decode(answer.saliency[0].values).copy())

    def probability(images: Tensor) -> float:
        return float(model.network(images).double().softmax(dim=1)[:, 1, 10:30, 10:30].mean())

    order = values.flatten().argsort(descending=True, stable=True)
    half = torch.zeros(SIZE * SIZE, dtype=torch.bool)
    half[order[: SIZE * SIZE // 2]] = True
    with torch.no_grad():
        nothing = x.mean(dim=(2, 3), keepdim=True).expand_as(x)  # the mean colour
        removed = torch.where(half.view(SIZE, SIZE), nothing, x)
        points = [probability(image) for image in (x, removed, nothing)]
    expected = (points[0] / 2 + points[1] + points[2] / 2) / 2
    assert answer.saliency[0].measures["deletion"] == pytest.approx(expected, rel=0.05)


# -- refusals ----------------------------------------------------------------------------------------------------------


def grey(bits: int) -> np.ndarray:
    return np.ones((2 * SIZE, 2 * SIZE), np.uint16 if bits == 16 else np.uint8)


def mask(data: bytes) -> dict[str, str]:
    return {"mask": base64.b64encode(data).decode()}


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


REGIONS: list[tuple[Callable[[], object], str, str]] = [
    (lambda: mask(file(grey(8)[:60])), "mask", "the mask has 128 x 60 pixels, the image 128 x 128"),
    (lambda: mask(file(grey(16))), "mask", "a PNG of 16 bits"),
    (lambda: mask(file(grey(8), "P")), "mask", "a PNG of a palette (P)"),
    (lambda: mask(file(grey(8), "RGB")), "mask", "a PNG of colours (RGB)"),
    (lambda: mask(file(grey(8), "LA")), "mask", "a PNG of grey with transparency"),
    (lambda: mask(file(grey(8) * 0)), "mask", "the mask is empty: every pixel of it is 0"),
    (lambda: mask(cut(file(segmenters.picture(0)[..., 0]))), "mask", "the PNG file is broken"),
    (lambda: mask(b"GIF89a"), "mask", "6 bytes are not a PNG file"),
    (lambda: mask(b""), "mask", "0 bytes are not a PNG file"),
    (lambda: {"mask": "%%%"}, "mask", "not base64"),
    (lambda: {"mask": 3}, "mask", "is not a string"),
    (lambda: {"box": [0, 0, 129, 5]}, "box", "right 129, bottom 5 is no rectangle within the image, which has 128 x"),
    (lambda: {"box": [5, 0, 5, 5]}, "box", "is no rectangle within the image"),
    (lambda: {"box": [-1, 0, 5, 5]}, "box", "is no rectangle within the image"),
    (lambda: {"box": [0, 0, 5]}, "box", "[0, 0, 5] is not [left, top, right, bottom]"),
    (lambda: {"box": [0, 0, 5, 1e300]}, "box", "bottom 1e+300 is no rectangle within the image"),
    (lambda: {"box": [0, 0, 5, True]}, "box", "True is not a number"),
    (lambda: {"pixel": [128, 0]}, "pixel", "128, 0 is not in the image, which has 128 x 128 pixels"),
    (lambda: {"pixel": [0, -1]}, "pixel", "0, -1 is not in the image"),
    (lambda: {"pixel": [0.5, 0]}, "pixel", "0.5 is not an integer"),
    (lambda: {"pixel": [2**40, 0]}, "pixel", "is not an integer of 32 bits"),
    (lambda: {"pixel": [1, 1], "box": [0, 0, 1, 1]}, "target", "for a region one of box, pixel, mask"),
    (lambda: {}, "target", "give exactly one of class, contrast, top, rank"),
    (lambda: {"class": 1, "rank": 0}, "target", "give exactly one of class, contrast, top, rank"),
    (lambda: {"circle": [1, 1, 1]}, "circle", "unknown"),
]


@pytest.mark.parametrize("case", range(len(REGIONS)))
def test_regions_that_are_none_are_refused_in_words(service: ExplainService, case: int) -> None:
    make, field, words = REGIONS[case]
    answer = ask(service, {"saliency": ["gradient", {"method": "gradient", "target": make()}]})
    assert answer.error.code == pb.Error.INVALID_ARGUMENT
    assert answer.error.field.startswith("saliency[1].target")
    assert field in answer.error.field
    assert words in answer.error.message


@pytest.mark.parametrize(
    ("region", "words"),
    [
        (pb.Region(), "give a box, a pixel or a mask"),
        (pb.Region(box=pb.Region.Box(right=float("nan"), bottom=3)), "are not four finite numbers"),
        (pb.Region(mask=tensors.encode(np.ones((128, 128), np.float32))), "float32 of shape (128, 128) is neither"),
        (pb.Region(mask=tensors.encode(np.ones((3, 128, 128), np.uint8))), "uint8 of shape (3, 128, 128) is neither"),
        (pb.Region(mask=tensors.encode(np.ones((128, 127), np.bool_))), "the mask has 127 x 128 pixels"),
        (pb.Region(mask=tensors.encode(np.ones((0, 0), np.uint8))), "the mask has 0 x 0 pixels"),
        (pb.Region(mask=pb.Region(mask=tensors.encode(np.ones(4, np.uint8))).mask), "4 bytes are not a PNG file"),
    ],
)
def test_messages_that_hold_no_region(service: ExplainService, region: pb.Region, words: str) -> None:
    options = pb.ExplainOptions(saliency=[pb.SaliencyRequest(method="gradient", target=pb.Target(region=region))])
    answer = ask(service, options)
    assert answer.error.code == pb.Error.INVALID_ARGUMENT
    assert words in answer.error.message


@pytest.mark.parametrize(
    "region",
    [
        {"pixel": [3, 50]},
        {"box": [0, 0, 40, 100]},
        {"mask": base64.b64encode(file(np.pad(np.full((100, 10), 9, np.uint8), ((0, 0), (0, 191))))).decode()},
    ],
)
def test_what_the_model_does_not_see_is_no_region(service: ExplainService, region: object) -> None:
    answer = ask(service, {"saliency": [{"method": "gradient", "target": region}]}, width=201, height=100)
    assert "has no pixel that the model sees: it sees" in answer.error.message


def test_a_large_png_of_a_small_file_is_refused_before_it_is_decoded(service: ExplainService) -> None:
    out = io.BytesIO()
    Image.new("1", (30000, 30000)).save(out, "PNG")
    target = {"mask": base64.b64encode(out.getvalue()).decode()}
    answer = ask(service, {"saliency": [{"method": "gradient", "target": target}]})
    assert "the mask has 30000 x 30000 pixels" in answer.error.message


def test_masks_count_as_images(model: Model) -> None:
    service = ExplainService(model, Limits(images=1))
    request = {"method": "gradient", "target": {"mask": IN_BASE64}}
    assert "2 images among parameters and masks; at most 1" in ask(service, {"saliency": [request] * 2}).error.message


def test_the_label_map_counts_for_the_answers_limit(model: Model) -> None:
    service = ExplainService(model, Limits(response_bytes=8192))
    told(ask(service))
    refused = ask(service, {"label_map_size": "original"})
    assert "the limit is 8192" in refused.error.message
    assert "label_map_size" in refused.error.message
    estimate = ask(service, {"label_map_size": "original", "estimate_only": True}).estimate
    assert estimate.response_bytes > 128 * 128


def test_conditions(service: ExplainService) -> None:
    for when in ({"score_below": 0.5}, {"entropy_above": 0.5}):
        answer = ask(service, {"saliency": ["gradient"], "when": when})
        assert answer.error.code == pb.Error.FAILED_PRECONDITION
        assert "'segments' is a segmentation model; conditions on it need a classifier" in answer.error.message
    met = ask(service, {"saliency": ["gradient"], "when": {"labels": ["sheep"]}})
    assert len(met.saliency) == 1


def test_a_condition_that_does_not_hold(model: Model) -> None:
    without = segmenters.network()
    with torch.no_grad():
        without.get_submodule("head").bias[1] -= 1000
    service = ExplainService(Model(**{**vars(model), "network": without}))
    answer = ask(service, {"saliency": ["gradient"], "when": {"labels": ["sheep"]}})
    assert not answer.saliency
    assert "none of them is among the prediction's ['background', 'goat', 'rock']" in answer.skipped


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"label_map_size": "model"}, "'tiny' is a classifier; sizes of label maps need a segmentation model"),
        ({"saliency": [{"method": "gradient", "target": {"pixel": [1, 1]}}]}, "'tiny' is a classifier, whose answer"),
        ({"label_map_size": "huge"}, "is not one of model, original"),
    ],
)
def test_classifiers_have_none_of_it(tiny: Model, options: object, words: str) -> None:
    answer = ask(ExplainService(tiny), options)
    assert words in answer.error.message


# -- pictures and records ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["model", "original"])
def test_the_picture_has_the_colours_of_the_classes(service: ExplainService, size: str) -> None:
    image = file(np.full((128, 128, 3), 128, np.uint8))
    (reply,) = service.answer([RawRequest(image=image, options=json.dumps({"label_map_size": size}), media_type=PNG)])
    body, media_type = reply.render(PNG)
    assert media_type == PNG
    drawn = np.asarray(Image.open(io.BytesIO(body)))
    assert drawn.shape[0] > 128  # the legend is below
    small = told(answers(service, [({}, image)])[0])
    voc = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0)}  # as Pascal VOC publishes them
    for y in range(0, 128, 5):
        for x in range(0, 128, 5):
            wanted = 0.6 * np.array(voc[int(small[y // 2, x // 2])]) + 0.4 * 128
            assert np.abs(drawn[y, x] - wanted).max() <= 1
    assert len(body) <= reply.limit


def test_maps_are_drawn_where_maps_are_asked_for(service: ExplainService) -> None:
    request = RawRequest(image=file(segmenters.picture(0)), options=b'{"saliency": ["gradient"]}', media_type=PNG)
    (reply,) = service.answer([request])
    body, _ = reply.render(PNG)
    assert Image.open(io.BytesIO(body)).size == (128, 128)


def test_a_record_holds_the_figures_and_no_mask(service: ExplainService) -> None:
    options = pb.ExplainOptions(
        saliency=[pb.SaliencyRequest(method="gradient", target=pb.Target(index=1, region=pb.Region(
            box=pb.Region.Box(right=9, bottom=9)
        )))]
    )  # fmt: skip
    answer = ask(service, options)
    said = facts(options, answer, "image")
    assert said["segmentation"]["classes"][0]["area"] == answer.segmentation.classes[0].area
    assert said["maps"][0]["region"] == "box"
    json.dumps(said)
    options.saliency[0].target.region.mask.CopyFrom(tensors.encode(MASK))
    assert facts(options, ask(service, options), "image")["options"] == {"left_out": "tensors"}
