"""The processes that measure and preprocess cases."""

from unetrpp.core.parallel import prepare_workers


def start_method() -> str:
    """Their start method (:func:`unetrpp.core.parallel.prepare_workers`); called early, it lets them import meanwhile."""
    return prepare_workers(
        ("unetrpp.planners.measure.fingerprint", "unetrpp.planners.repair", "unetrpp.planners.preprocess")
    )
