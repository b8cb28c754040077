# Generated from _async/_datasets.py by scripts/unasync.py (`make sync`). Do not edit.
# ruff: noqa: I001, SIM117, RUF100
# fmt: off
"""Data sets: upload, list and check them."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from google.protobuf.empty_pb2 import Empty

from ouzel_client._sync._transport import Transport
from ouzel_client._codec import datasets as codec
from ouzel_client._codec.boxed_source import collect_boxed
from ouzel_client._codec.dataset_source import Boxes, Files, Source, collect
from ouzel_client._codec.masked_source import collect_masked
from ouzel_client._codec.message import made
from ouzel_client._codec.uploads import manifest_parts, parts
from ouzel_client._display.progress import progress_bar
from ouzel_client._transport import grpc_sync as backend
from ouzel_client._types.datasets import Dataset, DatasetReport
from ouzel_client.errors import DeadlineExceeded, Unavailable
from ouzel_protos.v1 import dataset_pb2 as pb

logger = logging.getLogger(__name__)
SERVICE = "/ouzel.v1.DatasetService/"
_ASKED = 5000  # files in a question
_LONGEST = 3600.0  # s for one call that sends files
_CHECK = 3600.0  # s


class Datasets:
    """The data sets of the caller."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def __repr__(self) -> str:
        return f"{type(self).__name__}(of {self._transport})"

    def upload(
        self,
        source: Source,
        *,
        title: str = "",
        masks: str | os.PathLike[str] | None = None,
        boxes: Boxes | None = None,
        follow_links: bool = False,
        progress: bool | None = None,
    ) -> Dataset:
        """Upload labelled images. Only files that the worker does not have are sent, also after a lost connection.

        Args:
            source: A folder LABEL/FILE, or SPLIT/LABEL/FILE with SPLIT train, val or test (or a synonym: Training,
                test_set, eval); a zip file of such a folder; or pairs (image, label) with an image as `explain`
                takes it.
            title: For people.
            masks: A folder of PNG files with the paths of some or all images. A mask is above mid-grey on the object.
            boxes: Instead of masks, the boxes of the objects by path: (left, top, right, bottom) in pixels. The paths
                of pairs are their numbers: "000000".
            follow_links: Whether to follow links that lead out of the folder.
            progress: Whether to show a progress bar. None shows one on a terminal if rich is installed.

        Returns:
            The data set; its `left_out` has the files that are not used, which are logged as well.

        Raises:
            InvalidArgument: It names the file at fault; nothing was sent.
        """
        files = backend.run(collect, source, masks, boxes, follow_links)
        if files.left_out:
            logger.info("left out of %s: %s", source, files.left_out)
        return self._upload(files, title, progress)

    def upload_masked(
        self,
        source: str | os.PathLike[str],
        *,
        title: str = "",
        follow_links: bool = False,
        progress: bool | None = None,
    ) -> Dataset:
        """Upload images with the class of each pixel, for the recipe "segment". Only what is missing is sent.

        Masks other than label maps are made into label maps here; that needs `pip install 'ouzel-client[masks]'`.

        Args:
            source: A folder, or a zip file of one, with images/PATH and label maps masks/PATH.png with classes.txt (a
                class in each line, from number 0 on); or masks/CLASS/PATH.png, a mask for each class; or COCO's
                annotations.json. Splits lie above PATH, or above images and masks.
            title: For people.
            follow_links: Whether to follow links that lead out of the folder.
            progress: Whether to show a progress bar. None shows one on a terminal if rich is installed.

        Returns:
            The data set; its `left_out` has the files that are not used, which are logged as well.

        Raises:
            InvalidArgument: It names the file at fault; nothing was sent.
        """
        files = backend.run(collect_masked, source, follow_links)
        if files.left_out:
            logger.info("left out of %s: %s", source, files.left_out)
        return self._upload(files, title, progress)

    def upload_boxed(
        self,
        source: str | os.PathLike[str],
        *,
        title: str = "",
        follow_links: bool = False,
        progress: bool | None = None,
    ) -> Dataset:
        """Upload images with boxes of objects, for the recipe "detect". Only what is missing is sent.

        Args:
            source: A folder, or a zip file of one, with images/PATH, and boxes.csv (columns path, label, left, top,
                right, bottom, in pixels of the image as it is shown; a line with a path alone is an image without
                objects) or COCO's annotations.json. Splits lie above PATH, or above images.
            title: For people.
            follow_links: Whether to follow links that lead out of the folder.
            progress: Whether to show a progress bar. None shows one on a terminal if rich is installed.

        Returns:
            The data set; its `left_out` has the files that are not used, which are logged as well.

        Raises:
            InvalidArgument: It names the file, the line and the value at fault; nothing was sent.
        """
        files = backend.run(collect_boxed, source, follow_links)
        if files.left_out:
            logger.info("left out of %s: %s", source, files.left_out)
        return self._upload(files, title, progress)

    def get(self, dataset: str) -> Dataset:
        """A data set by its id.

        Raises:
            NotFound: There is no such data set.
        """
        return codec.dataset(self._call("GetDataset", made(pb.GetDatasetRequest, id=dataset), pb.Dataset))

    def list(self) -> Iterator[Dataset]:
        """The data sets, newest first."""
        request = pb.ListDatasetsRequest(page_size=100)
        while True:
            page = self._call("ListDatasets", request, pb.ListDatasetsResponse)
            for each in page.datasets:
                yield codec.dataset(each)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def delete(self, dataset: str) -> None:
        """Remove a data set.

        Raises:
            NotFound: There is no such data set.
            FailedPrecondition: A job needs it.
        """
        self._call("DeleteDataset", made(pb.DeleteDatasetRequest, id=dataset), Empty)

    def check(self, dataset: str, timeout: float = _CHECK) -> DatasetReport:
        """Let the worker check every image. Takes seconds to minutes the first time.

        Args:
            dataset: The id of the data set.
            timeout: Seconds that the call may take, retries included.

        Raises:
            NotFound: There is no such data set.
        """
        return codec.report(
            self._call("CheckDataset", made(pb.CheckDatasetRequest, id=dataset), pb.DatasetReport, timeout)
        )

    def _upload(self, files: Files, title: str, progress: bool | None) -> Dataset:
        self._send(files, progress)
        return replace(codec.dataset(self._create(files, title)), left_out=files.left_out)

    def _send(self, files: Files, progress: bool | None) -> None:
        pauses = self._transport.options.retry.pauses()
        with progress_bar(progress, len(files.contents), "sending") as advance:
            told, before = 0, None
            while True:
                missing = self._missing(files)
                for _ in range(len(files.contents) - len(missing) - told):
                    advance()
                told = len(files.contents) - len(missing)
                if not missing:
                    return
                if before is None or len(missing) < before:
                    pauses, before = self._transport.options.retry.pauses(), len(missing)
                try:
                    requests = parts(files, missing)
                    self._transport.send(SERVICE + "UploadFiles", requests, pb.UploadFilesResponse, _LONGEST)
                except (Unavailable, DeadlineExceeded) as error:  # the latter when the line was silent for too long
                    self._transport.pause(next(pauses, None), time.monotonic() + _LONGEST, error)

    def _missing(self, files: Files) -> Sequence[str]:
        refs = {entry.file.sha256: entry.file for entry in files.entries}
        refs |= {entry.mask.sha256: entry.mask for entry in files.entries if entry.HasField("mask")}
        asked = [*refs.values()]
        missing: Sequence[str] = ()
        for start in range(0, len(asked), _ASKED):
            request = pb.FindMissingRequest(files=asked[start : start + _ASKED])
            missing = (*missing, *(self._call("FindMissing", request, pb.FindMissingResponse)).sha256)
        return missing

    def _create(self, files: Files, title: str) -> pb.Dataset:
        """Send it again if the answer is lost: the same manifest is the same data set."""
        pauses = self._transport.options.retry.pauses()
        while True:
            try:
                return self._transport.send(
                    SERVICE + "CreateDataset", manifest_parts(files, title), pb.Dataset, _LONGEST
                )
            except Unavailable as error:
                self._transport.pause(next(pauses, None), time.monotonic() + _LONGEST, error)

    def _call(self, name: str, request: Any, answer: Any, timeout: float | None = None) -> Any:
        return self._transport.call(SERVICE + name, request, answer, timeout)
