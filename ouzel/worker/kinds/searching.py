"""The search for hyper-parameters before a fine-tuning: its trials as events, and in the checkpoint.

A trial is told when it begins and when it has ended, each once, together with the checkpoint that says so. A job that
is tried again has those that had ended. With one worker it goes on with the trial that ran; with several, those that
ran begin again with their values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ouzel.errors import FailedPrecondition, InvalidArgument
from ouzel.worker.kinds.context import JobContext, JobInterrupted
from ouzel.worker.kinds.finetune_progress import Told
from ouzel.worker.ranks import trial_starter
from ouzel_protos import parameters as codec
from ouzel_protos.recipes import FINETUNE, FINETUNE_DEFAULT
from ouzel_protos.search import TRIALS_DEFAULT, BadSearch, Choices, Interval, Searched, Space, check
from ouzel_protos.v1 import explain_pb2
from ouzel_protos.v1 import job_pb2 as pb

if TYPE_CHECKING:
    from ouzel.finetune import Example, Recipe
    from ouzel.finetune.search import Found, Trial
    from ouzel.models import Model

_OUTCOMES = {"": 0, "complete": pb.Trial.COMPLETE, "pruned": pb.Trial.PRUNED, "diverged": pb.Trial.DIVERGED}
_LARGEST = 2.0**53


def validate(spec: pb.FinetuneSpec, parameters: Mapping[str, Any]) -> None:
    """Refuses a search that cannot be. Raises InvalidArgument or FailedPrecondition."""
    if not spec.search:
        if spec.trials:
            raise InvalidArgument(f"trials: {spec.trials}, but search names no parameter", field="trials")
        return
    recipe = spec.recipe or FINETUNE_DEFAULT
    try:
        check(recipe, space_of(spec), trials_of(spec), parameters)
    except BadSearch as error:
        raise InvalidArgument(str(error), field=error.field) from None
    if spec.max_training_seconds:
        raise InvalidArgument(
            f"max_training_seconds: {spec.max_training_seconds:g} would end each trial alike; with search, bound the "
            "job by max_duration or max_cost, or give fewer trials",
            field="max_training_seconds",
        )
    if find_spec("optuna") is None:
        raise FailedPrecondition(
            "search: this worker has no optuna; its operator can run `pip install 'ouzel[search]'`", field="search"
        )


def trials_of(spec: pb.FinetuneSpec) -> int:
    """How many trials a job has; 0 without a search."""
    return (spec.trials or TRIALS_DEFAULT) if spec.search else 0


def space_of(spec: pb.FinetuneSpec) -> Space:
    """What is searched. Raises BadSearch."""
    limits = FINETUNE.get(spec.recipe or FINETUNE_DEFAULT, {})
    space: dict[str, Searched] = {}
    for name, each in sorted(spec.search.items()):
        whole = name in limits and limits[name].kind is int
        kind = each.WhichOneof("kind")
        if kind == "interval":
            low, high = (_number(value, whole) for value in (each.interval.low, each.interval.high))
            space[name] = Interval(low, high, each.interval.log)
        elif kind == "choices":
            space[name] = Choices(tuple(_choice(name, value, whole) for value in each.choices.values))
        else:
            raise BadSearch(f"search.{name:.80}", "has neither an interval nor choices")
    return space


def run(
    spec: pb.FinetuneSpec, context: JobContext, base: Model, examples: Sequence[Example], recipe: Recipe, *, told: Told
) -> Found:
    """Searches, or goes on with the search of an attempt before this one."""
    from ouzel.finetune.search import Trial, search

    finished = [Trial.from_dict(each) for each in told.searched.get("trials", ())]
    begun = {each.number: each for each in map(Trial.from_dict, told.searched.get("begun", ()))}
    known = {told.searched.get("running"), *begun}  # that an attempt before this one has told
    trials, ended, running = trials_of(spec), list(finished), dict[int, Trial]()

    def on_trial(trial: Trial) -> None:
        if trial.outcome:
            ended.append(trial)
            for one in (begun, running):
                one.pop(trial.number, None)
        else:
            begun[trial.number] = running[trial.number] = trial
        if trial.outcome or trial.number not in known:
            told.keep_trials(_record(ended, begun), _event(trial, trials))
        told.doing = f"trial {min(running)} of {trials}, " if running else ""

    def on_wait() -> None:
        if context.stop_wanted():
            raise JobInterrupted

    found = search(
        base,
        examples,
        recipe,
        space_of(spec),
        trials=trials,
        seed=spec.seed,
        image_size=spec.image_size,
        cache=context.environment.cache,
        on_event=told,
        on_trial=on_trial,
        finished=finished,
        resume=told.resumed if len(finished) < trials else None,
        batch_scale=context.batch_scale,
        workers=max(1, spec.workers),
        starter=trial_starter(),
        begun=list(begun.values()),
        on_wait=on_wait,
    )
    best = found.best
    values = ", ".join(f"{name} {value:g}" for name, value in best.parameters.items())
    if len(finished) < trials:
        context.log(
            f"trial {best.number} of {trials} was the best, with {values}: all training images learn with these"
        )
    return found


def _record(ended: Sequence[Trial], begun: Mapping[int, Trial]) -> dict[str, Any]:
    """What the checkpoint says: those that have ended, in that order, and those that have begun."""
    return {"trials": [each.to_dict() for each in ended], "begun": [each.to_dict() for each in begun.values()]}


def _event(trial: Trial, trials: int) -> pb.JobEvent:
    message = pb.Trial(
        number=trial.number,
        trials=trials,
        outcome=_OUTCOMES[trial.outcome],  # type: ignore[arg-type]
        epochs=trial.epochs,
        reason=trial.reason[:500],
        parameters={name: codec.encode(value) for name, value in trial.parameters.items()},
    )
    if trial.score is not None:
        message.score = trial.score
    return pb.JobEvent(trial=message)


def _choice(name: str, sent: explain_pb2.Parameter, whole: bool) -> float | bool:
    kind = sent.WhichOneof("value")
    if kind not in ("number", "integer", "flag"):
        raise BadSearch(f"search.{name:.80}", "has a value that is neither a number nor a flag")
    value = codec.decode(sent)
    return _number(value, whole) if kind == "number" else value


def _number(value: float, whole: bool) -> float:
    """An integer that was sent as a double is one where one is meant; the check of its range refuses others."""
    return int(value) if whole and float(value).is_integer() and abs(value) < _LARGEST else value
