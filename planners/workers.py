"""The processes that measure and preprocess cases."""

from unetrpp.core.parallel import prepare_workers


def start_method() -> str:
    """How they start (:func:`unetrpp.core.parallel.prepare_workers`); the earlier it is asked for, the sooner they are ready."""
    return prepare_workers(
        ("unetrpp.planners.measure.extract", "unetrpp.planners.repair", "unetrpp.planners.preprocess")
    )
