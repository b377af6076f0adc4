"""Models' predictions, and blends of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Predictions:
    """What a model, or a blend, says of digits that it was not fitted on.

    out_of_fold: probabilities of shape (held-out rows, 10); test: of shape (test rows, 10); float32.
    """

    name: str
    out_of_fold: np.ndarray
    test: np.ndarray


def mean(members: Sequence[Predictions]) -> Predictions:
    """The members' average, each with the same weight.

    It learns nothing, so that the rows which score the members score the blend as honestly.
    """
    return Predictions(
        "blend",
        np.mean([member.out_of_fold for member in members], axis=0),
        np.mean([member.test for member in members], axis=0),
    )
