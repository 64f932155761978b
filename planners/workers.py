"""The processes that measure and preprocess cases."""

from unetrpp.parallel import prepare_workers


def start_method() -> str:
    """How they start (:func:`unetrpp.parallel.prepare_workers`); the earlier it is asked for, the sooner they are ready."""
    return prepare_workers(("unetrpp.planners.extract", "unetrpp.planners.mend", "unetrpp.planners.preprocess"))
