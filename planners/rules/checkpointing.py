"""Gradient checkpointing: where it is asked for, and where a given patch does not fit the GPU without it."""

from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from unetrpp.core.errors import UserError
from unetrpp.core.text import format_bytes, format_shape
from unetrpp.networks.training_memory import training_memory
from unetrpp.planners.options import Options
from unetrpp.planners.rules.element_budget import SMALLEST_BATCH
from unetrpp.planners.rules.patch_and_batch import Fit, fit_by_cost
from unetrpp.planners.rules.topology import Topology
from unetrpp.plans.architecture import Architecture
from unetrpp.plans.plans import Decision

HOW = "a step computes every stage of the network again in its backward pass, a third more arithmetic"


def fit_with_checkpointing(
    topologies: Sequence[Topology], architecture: Callable[[Topology], Architecture], outputs: int, options: Options
) -> Fit:
    """:func:`fit_by_cost`, with checkpointing where it is asked for, or where the only topology does not fit without it.

    That one is the patch of ``--patch`` or a preset; of several topologies a smaller one is taken.

    Raises:
        UserError: checkpointing is asked for and saves nothing.
    """
    fit = partial(fit_by_cost, outputs=outputs, gpu_memory_gb=options.gpu_memory_gb, batch_size=options.batch_size)

    def recomputed(topology: Topology) -> Architecture:
        return recomputing(architecture(topology))

    if options.checkpointing:
        chosen = fit(topologies, recomputed)
        return with_asked(chosen, architecture(chosen.topology), options.batch_size)
    plain = fit(topologies, architecture)
    if plain.fits or len(topologies) > 1:
        return plain
    chosen = fit(topologies, recomputed)
    if not chosen.fits:
        return plain
    batch = _smallest(options.batch_size)
    patch, needed = format_shape(plain.topology.patch), format_bytes(plain.bytes_of(batch))
    return _switched_on(chosen, f"without it, patch {patch} needs {needed} and does not fit {plain.budget}")


def with_asked(fit: Fit, architecture: Architecture, batch_size: int | None) -> Fit:
    """A fit of the network ``architecture`` with checkpointing, which is asked for.

    Raises:
        UserError: it saves nothing.
    """
    plain, step, batch = (
        training_memory(architecture),
        training_memory(recomputing(architecture)),
        _smallest(batch_size),
    )
    before, after = format_bytes(round(plain.of(batch))), format_bytes(round(step.of(batch)))
    if step.of(batch) >= plain.of(batch):
        raise UserError(
            f"--checkpointing saves no memory here: a training step of {architecture.network} with patch "
            f"{format_shape(architecture.patch)} needs {after} with it and {before} without; leave it out"
        )
    return _switched_on(
        fit._replace(memory=step), f"asked for; at batch {batch} a step needs {after} in place of {before}"
    )


def _smallest(batch_size: int | None) -> int:
    """The batch that a patch has to allow."""
    return max(batch_size or 0, SMALLEST_BATCH)


def _switched_on(fit: Fit, why: str) -> Fit:
    return fit._replace(budget=f"{fit.budget} with checkpointing", checkpointing=f"{why}; {HOW}")


def recomputing(architecture: Architecture) -> Architecture:
    """The same network with checkpointing."""
    return msgspec.structs.replace(architecture, checkpointing=True)


def checkpointing_decision(fit: Fit) -> tuple[Decision, ...]:
    """None where checkpointing is off, as it is by default."""
    if fit.checkpointing is None:
        return ()
    return (Decision(about="gradient checkpointing", value="on", why=fit.checkpointing),)
