"""Maps of a case: the entropy of one fold, and what its gates let through."""

import numpy as np
import torch

from unetrpp.core.errors import UserError
from unetrpp.inference.export import export, resampling_taps
from unetrpp.inference.output_rule import OutputRule
from unetrpp.inference.predictor import Predictor
from unetrpp.inference.taps import resample_slabs
from unetrpp.io.images import Volume
from unetrpp.preprocessing.case import PreprocessedCase
from unetrpp.report.attention_maps import recorded_pass


def case_maps(predictor: Predictor, image: Volume, case: str) -> dict[str, np.ndarray]:
    """By name, maps (Z, Y, X) on the image's grid: the entropy (0 to 1), and A^gamma of every gate (gate@LEVEL).

    They are those of one pass of the predictor's one fold without mirroring. Where the model is calibrated, the entropy is
    that of the calibrated probabilities. Outside the crop both are 0.

    Raises:
        UserError: the image has another number of channels than the model's, or NaN or infinite values.
    """
    prepared = predictor.prepare(image, case)
    properties, grid = prepared.properties, predictor.grid(prepared.properties)
    # The first stage of a cascade runs here, before the pass that is recorded.
    prepared = PreprocessedCase(predictor.network_input(prepared), None, properties)
    logits, _, gates = recorded_pass(predictor, prepared)
    rule = OutputRule(predictor.model.plans.labels, _temperatures(predictor))
    averaging = predictor.model.configuration.averaging
    uncertain = export([logits[None]], grid, averaging=averaging, rule=rule, uncertainty=True).to_input(grid).entropy
    maps: dict[str, np.ndarray] = {} if uncertain is None else {"entropy": uncertain}
    if gates:
        stacked = torch.from_numpy(np.stack(list(gates.values()))).float()
        cropped = torch.cat(list(resample_slabs([stacked], resampling_taps(grid))), dim=1).numpy()
        maps |= {place: grid.to_input(values) for place, values in zip(gates, cropped, strict=True)}
    return maps


def _temperatures(predictor: Predictor) -> tuple[float, ...]:
    """Those of the model; none where its calibration is out of date, which the page says elsewhere."""
    try:
        return predictor.temperatures
    except UserError:
        return ()
