"""Images that a model's device decodes. The device is made up; its decoder is torchvision's for processors, or a fake.

A GPU's own decoder, nvJPEG, cannot be tried here: `benchmarks/decoding.py` compares it with the processors' on a GPU.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import logging
from collections.abc import Sequence
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from ouzel import images
from ouzel.decode_places import VARIABLE
from ouzel.errors import InvalidArgument
from ouzel.explain import PNG, ExplainService, RawRequest, device_decoder, inputs
from ouzel.explain.device_decoder import DeviceDecoder, by_torchvision, decoder_of
from ouzel.explain.stages import Stages
from ouzel.models import Model, Preprocessing
from ouzel.saliency import transfer as transfers
from ouzel.saliency.transfer import Transfer
from ouzel_protos.v1 import explain_pb2 as pb
from support.pictures import picture, png

WISH = b'{"saliency": ["gradient"]}'
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def jpeg(seed: int, mode: str = "RGB", **how: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture(seed, 60, 44)).convert(mode).save(file, "JPEG", **how)
    return file.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return jpeg(3, exif=exif)


OTHERS: dict[str, bytes] = {
    "PNG": png(1),
    "grey": jpeg(1, "L"),
    "CMYK": jpeg(1, "CMYK"),
    "progressive": jpeg(1, progressive=True),
    "turned by EXIF": turned(),
    "RGB as it is": jpeg(1, keep_rgb=True),
    "cut off": jpeg(1)[:-40],
    "something behind its end": jpeg(1) + b"x",
    "no picture": b"\xff\xd8\xff\xd9",
    "nothing": b"",
}


class Recording:
    """A decoder that keeps what it was asked for, and answers with another."""

    def __init__(self, decode: device_decoder.Decode = by_torchvision) -> None:
        self.asked: list[list[bytes]] = []
        self._decode = decode

    def __call__(self, files: Sequence[bytes], device: torch.device) -> Sequence[Tensor]:
        self.asked.append(list(files))
        return self._decode(files, device)


def with_device(model: Model, decode: device_decoder.Decode) -> ExplainService:
    """A service whose model is on the processor, as is what decodes for its "device"."""
    service = ExplainService(model)
    service._served = dataclasses.replace(service._served, decoder=DeviceDecoder(CPU, decode))
    return service


def answers(service: ExplainService, files: Sequence[bytes], **more: object) -> list[pb.Explanation]:
    requests = [RawRequest(image=each, options=WISH, **more) for each in files]  # type: ignore[arg-type]
    return [reply.envelope for reply in service.answer(requests)]


def same(one: pb.Explanation, other: pb.Explanation) -> None:
    for each in (one, other):
        each.ClearField("timing")
    if one.HasField("error") or other.HasField("error"):
        assert one == other
        return
    assert one.view == other.view
    logits = [[score.logit for score in each.scores] for each in (one, other)]
    assert logits[0] == pytest.approx(logits[1], rel=1e-5)


@pytest.mark.parametrize("what", OTHERS)
def test_what_decoders_do_not_read_alike_is_left_to_processors(service: ExplainService, tiny: Model, what: str) -> None:
    decode, plain = Recording(), jpeg(2)
    (made, first), (expected, _) = (
        answers(each, [OTHERS[what], plain]) for each in (with_device(tiny, decode), service)
    )
    assert decode.asked == [[plain]]
    assert first.view.decoded_on_device
    assert not made.view.decoded_on_device
    same(made, expected)


def test_a_large_photograph_is_read_smaller_by_processors(tiny: Model) -> None:
    file = io.BytesIO()
    Image.fromarray(picture(1, 400, 300)).save(file, "JPEG")  # the model wants 36 pixels
    decode = Recording()
    (answer,) = answers(with_device(tiny, decode), [file.getvalue()])
    assert answer.scores
    assert not decode.asked


def test_a_batch_of_both_is_computed_together(service: ExplainService, tiny: Model) -> None:
    """torchvision's decoder gives the pixels that Pillow's gives."""
    files = [png(5), jpeg(6), png(7), jpeg(8), jpeg(9)]
    decode = Recording()
    made, expected = answers(with_device(tiny, decode), files), answers(service, files)
    assert decode.asked == [[files[1], files[3], files[4]]]
    assert [each.view.decoded_on_device for each in made] == [False, True, False, True, True]
    for one, other in zip(made, expected, strict=True):
        assert one.timing.batch_size == len(files)
        assert [score.index for score in one.scores] == [score.index for score in other.scores]
        logits = [[score.logit for score in each.scores] for each in (one, other)]
        assert logits[0] == pytest.approx(logits[1], rel=1e-5)


def test_pictures_and_records_are_made_of_what_processors_decode(tiny: Model) -> None:
    decode = Recording()
    service = with_device(tiny, decode)
    (drawn,) = service.answer([RawRequest(image=jpeg(1), options=WISH, media_type=PNG)])
    body, media_type = drawn.render(PNG)
    assert media_type == PNG
    assert Image.open(io.BytesIO(body)).size[0] >= 60
    (refused,) = service.answer([RawRequest(image=jpeg(1), options=b'{"record": true}')])
    assert refused.envelope.error.code == pb.Error.FAILED_PRECONDITION  # there is no log
    (cost,) = service.answer([RawRequest(image=jpeg(1), options=b'{"estimate_only": true}')])
    assert cost.envelope.estimate.response_bytes
    assert not decode.asked


@pytest.mark.parametrize("fault", ["raises", "gives fewer", "gives grey"])
def test_where_the_device_fails_processors_decode(
    service: ExplainService, tiny: Model, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows that are broken are told so, the others are answered."""

    def fails(files: Sequence[bytes], device: torch.device) -> Sequence[Tensor]:
        if fault == "raises":
            raise RuntimeError("nvjpegDecodeBatched failed: 6")
        decoded = by_torchvision(files, device)
        return decoded[1:] if fault == "gives fewer" else [each[:1] for each in decoded]

    broken = jpeg(4)[:-300] + b"\xff\xd9"
    files = [jpeg(5), broken, jpeg(6)]
    made, expected = answers(with_device(tiny, fails), files), answers(service, files)
    assert "the device does not decode" in caplog.text
    assert not any(each.view.decoded_on_device for each in made)
    for one, other in zip(made, expected, strict=True):
        same(one, other)


@given(st.data())
def test_whatever_the_bytes_it_is_the_size_that_decoding_gives(data: st.DataObject) -> None:
    file = bytearray(jpeg(1))
    for _ in range(data.draw(st.integers(0, 4))):
        file[data.draw(st.integers(2, len(file) - 3))] = data.draw(st.integers(0, 255))
    size = images.size_of_plain_jpeg(bytes(file), smallest=36)
    if size is not None:
        with contextlib.suppress(InvalidArgument):  # broken behind its header
            assert images.original_size(images.decode(bytes(file), smallest=36)) == size


def test_the_operator_chooses(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    decode = Recording()
    assert decoder_of(Preprocessing(), CUDA, 1, decode) is None
    monkeypatch.setenv(VARIABLE, "host")
    assert decoder_of(Preprocessing(), CUDA, 1, decode) is None
    assert not caplog.text
    monkeypatch.setenv(VARIABLE, "device")
    assert decoder_of(Preprocessing(), CPU, 1, decode) is None
    assert decoder_of(Preprocessing().adapted(channels=1), CUDA, 1, decode) is None
    assert caplog.text.count("decodes images on processors") == 2
    assert not decode.asked
    monkeypatch.setenv(VARIABLE, "gpu")
    with pytest.raises(InvalidArgument, match=VARIABLE):
        decoder_of(Preprocessing(), CUDA, 1, decode)


def slightly_off(levels: int) -> device_decoder.Decode:
    def decode(files: Sequence[bytes], _: torch.device) -> Sequence[Tensor]:
        return [(each.int() + levels).clamp(0, 255).to(torch.uint8) for each in by_torchvision(files, CPU)]

    return decode


def fails(files: Sequence[bytes], device: torch.device) -> Sequence[Tensor]:
    raise RuntimeError("not compiled with nvJPEG")


@pytest.mark.parametrize(
    ("decode", "host", "device", "threads", "taken"),
    [
        (slightly_off(0), 8.0, 1.0, 4, True),
        (slightly_off(0), 8.0, 1.0, 8, False),  # as many processors are as fast
        (slightly_off(0), 8.0, 9.0, 1, False),
        (slightly_off(3), 8.0, 1.0, 4, False),
        (fails, 8.0, 1.0, 4, False),
    ],
    ids=["faster", "as fast", "slower", "inexact", "fails"],
)
def test_it_is_taken_where_it_is_faster_and_exact_enough(
    decode: device_decoder.Decode,
    host: float,
    device: float,
    threads: int,
    taken: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The clock is made up: what processors do takes `host` seconds, what the device does `device`."""
    rounds = device_decoder._ROUNDS
    lasted = [host] * rounds + [device] * rounds
    ticks = itertools.accumulate(itertools.chain.from_iterable((0.0, each) for each in lasted))
    monkeypatch.setattr(device_decoder.time, "perf_counter", lambda: next(ticks))
    monkeypatch.setattr(device_decoder, "_ROWS", 3)
    monkeypatch.setenv(VARIABLE, "device")
    caplog.set_level(logging.INFO)
    made = decoder_of(Preprocessing(), CUDA, threads, decode)
    assert (made is not None) == taken
    assert ("decodes on the device" in caplog.text) == taken


def test_images_are_resized_together_as_far_as_memory_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    way = Preprocessing(input_size=(32, 32), resize=36)
    files = [jpeg(seed) for seed in range(5)]
    expected = DeviceDecoder(CPU).pixels(files, way)
    sizes: list[int] = []
    real = device_decoder.resample

    def counting(images: Sequence[Tensor], *more: object) -> Tensor:
        sizes.append(len(images))
        return real(images, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(device_decoder, "resample", counting)
    monkeypatch.setattr(device_decoder, "_PADDED", 2 * 3 * 44 * 60 * 8)
    made = DeviceDecoder(CPU).pixels(files, way)
    assert sizes == [2, 2, 1]
    assert all(torch.equal(one, other) for one, other in zip(made, expected, strict=True))
    assert made[0].shape == (3, 32, 32)
    assert torch.equal(made[0], way.pixels(images.decode(files[0])))


def test_on_a_gpu_nothing_comes_to_the_host(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faked: tensors on the GPU, which have no values, its decoder, pinned memory, and the marks of the device."""

    def decode(files: Sequence[bytes], device: torch.device) -> Sequence[Tensor]:
        return [torch.empty(3, 44 + number, 60, dtype=torch.uint8, device=device) for number in range(len(files))]

    monkeypatch.setattr(transfers, "pinned", lambda shape, dtype: torch.empty(shape, dtype=dtype))
    monkeypatch.setattr(torch.cuda, "Event", mock.MagicMock())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: None)
    host = torch.zeros(3, 32, 32, dtype=torch.uint8)
    with FakeTensorMode(allow_non_fake_inputs=True):
        made = DeviceDecoder(CUDA, decode).pixels([b""] * 3, tiny.preprocessing)
        assert [(each.device.type, each.dtype, each.shape) for each in made] == [("cuda", torch.uint8, host.shape)] * 3
        for rows in ([host, made[0], host, made[1]], [made[2]]):
            x = inputs.batched(rows, tiny.preprocessing, CUDA, Stages(), Transfer())
            assert (x.device.type, x.dtype, x.shape) == ("cuda", torch.float32, (len(rows), 3, 32, 32))
