"""Whose predictions a job audits, and where its maps come from."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ouzel.checks import one_of
from ouzel.errors import InvalidArgument, NotFound
from ouzel.names import label_index
from ouzel.task_names import CLASSIFICATION
from ouzel.worker.catalog.catalog import Catalogue
from ouzel.worker.kinds import pinned_model
from ouzel_protos.methods import METHODS
from ouzel_protos.v1 import job_pb2 as pb

if TYPE_CHECKING:
    from ouzel.audit import Maps, Predictor
    from ouzel.endpoints.open import EndpointPredictor
    from ouzel.worker.environment import JobEnvironment
    from ouzel.worker.kinds.context import JobContext

METHOD = "grad_cam"


@dataclass(frozen=True)
class Sources:
    """What an audit asks.

    Attributes:
        predictor: Whose predictions are audited; None if only recorded ones are had.
        maps: Where the maps come from.
        surrogate: Another model of the store; None if none is named.
        opened: What `close` ends.
    """

    predictor: Predictor | None
    maps: Maps
    surrogate: Predictor | None
    opened: ExitStack

    def close(self) -> None:
        """Ends connections."""
        self.opened.close()


def check(spec: pb.AuditSpec, catalogue: Catalogue) -> None:
    """Refuses unknown models and endpoints, and a job without anybody to ask.

    Raises:
        InvalidArgument: There is neither a source nor recorded predictions with a surrogate.
        NotFound: There is no such model or endpoint.
        FailedPrecondition: A model has other weights than those that are named.
    """
    source = spec.WhichOneof("source")
    if source == "model":
        model = catalogue.model(spec.model)
        pinned_model.check_digest(spec.model, model.digest, spec.model_digest, "model_digest")
        model.need(CLASSIFICATION, "audits", "model")
        for number, label in enumerate(spec.scenes):
            label_of_scene(model.labels, label, f"scenes[{number}]")
        if spec.surrogate:
            raise InvalidArgument("surrogate: a model of the store has maps of its own", field="surrogate")
    elif source == "endpoint" and spec.endpoint not in catalogue.endpoints:
        held = ", ".join(sorted(catalogue.endpoints)) or "none"
        raise NotFound(
            f"endpoint: no endpoint {spec.endpoint!r:.80}; the operator registered {held:.400}", field="endpoint"
        )
    elif source is None and not (spec.recorded and spec.surrogate):
        raise InvalidArgument(
            "source: name a model or an endpoint, or give recorded predictions and a surrogate", field="source"
        )
    if spec.method:
        one_of("method", spec.method, METHODS)
        if not (spec.model or spec.surrogate):
            raise InvalidArgument(
                f"method: {spec.method!r} needs a model to look into; name a surrogate, or no method", field="method"
            )
    if spec.surrogate:
        other = catalogue.model(spec.surrogate, "surrogate")
        pinned_model.check_digest(spec.surrogate, other.digest, spec.surrogate_digest, "surrogate_digest")
        other.need(CLASSIFICATION, "audits", "surrogate")


def label_of_scene(labels: Sequence[str], label: str, field: str) -> None:
    """Refuses a class that a model does not have. Raises InvalidArgument."""
    if label not in labels:
        try:
            label_index(labels, label)
        except InvalidArgument as error:
            raise InvalidArgument(f"{field}: {str(error).removeprefix('label: ')}", field=field) from None


def open_sources(spec: pb.AuditSpec, context: JobContext) -> Sources:
    """Loads the models and opens the endpoint. Raises OuzelError."""
    from ouzel.audit import AnswerMaps, ModelMaps, ModelPredictor
    from ouzel.saliency import Explainer

    method = spec.method or METHOD
    opened = ExitStack()
    predictor: Predictor | None = None
    surrogate: Predictor | None = None
    maps: Maps | None = None
    if spec.model:
        model = pinned_model.load(context, spec.model, spec.model_digest)
        explainer = Explainer(model)
        predictor = ModelPredictor(model, explainer)
        maps = ModelMaps(model, model.labels, method, explainer=explainer)
    elif spec.endpoint:
        endpoint = opened.enter_context(_endpoint(spec.endpoint, context.environment))
        predictor, maps = endpoint, AnswerMaps(endpoint)
    if spec.surrogate:
        other = pinned_model.load(context, spec.surrogate, spec.surrogate_digest)
        explainer = Explainer(other)
        surrogate = ModelPredictor(other, explainer)
        labels = other.labels if predictor is None else predictor.labels
        maps = ModelMaps(other, labels, method, surrogate=True, explainer=explainer)
    assert maps is not None  # `check` has seen to that
    return Sources(predictor, maps, surrogate, opened)


def _endpoint(name: str, environment: JobEnvironment) -> EndpointPredictor:
    from ouzel.endpoints.description import file
    from ouzel.endpoints.open import open_endpoint

    known = file.registered(environment.endpoint_file or None, environment.endpoint_flags)
    if name not in known:  # the operator has changed the file since
        raise NotFound(f"endpoint: no endpoint {name!r:.80} any more", field="endpoint")
    return open_endpoint(known[name])
