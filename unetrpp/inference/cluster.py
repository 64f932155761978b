"""Cases predicted by the workers of a cluster, each of which keeps the loaded models (``--executor``)."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from uuid import uuid4

from unetrpp.core.cluster import current_executor
from unetrpp.core.parallel import stream_cases
from unetrpp.inference.ensemble import Ensemble
from unetrpp.inference.inputs import Cases
from unetrpp.inference.options import InferenceOptions, OutputOptions
from unetrpp.inference.stream import Failure, Finished, Written, predicted_cases


@dataclass(frozen=True)
class Work:
    """What every worker does; a worker loads the models once for each ``run``."""

    models: tuple[Path, ...] = field(compare=False)
    options: InferenceOptions = field(compare=False)
    output: OutputOptions = field(compare=False)
    run: str = field(default_factory=lambda: uuid4().hex)


class ClusterWorkers:
    """The workers of the surrounding :func:`unetrpp.core.cluster.cluster`, with the models and options of ``ensemble``.

    Attributes:
        name: for the prediction record.
    """

    name = "cluster"

    def __init__(self, ensemble: Ensemble, output: OutputOptions):
        models = tuple(member.model.path.absolute() for member in ensemble.members)
        self._work = Work(models, ensemble.first.options, output)

    @classmethod
    def current(cls, ensemble: Ensemble, output: OutputOptions) -> "ClusterWorkers | None":
        """None outside of a cluster."""
        return None if current_executor() is None else cls(ensemble, output)

    def predicted(self, cases: Cases) -> Iterator[Finished]:
        """Predict and write every case; those that are finished, as they come."""
        jobs = {case: (self._work, case, files) for case, files in cases.items()}
        for outcome in stream_cases(predict_case, jobs, "predicting", 1):
            if outcome.value is not None:
                yield outcome.case, outcome.value
            elif outcome.error is not None:
                yield outcome.case, Failure(outcome.error.message)


def predict_case(work: Work, case: str, files: tuple[Path, ...]) -> Written | Failure:
    """Predict and write one case. Runs in a worker."""
    ((_, found),) = predicted_cases(_loaded(work), work.output, [(case, files)])
    return found


@lru_cache(maxsize=1)
def _loaded(work: Work) -> Ensemble:
    return Ensemble.load(work.models, work.options)
