"""How good segmentations are: in memory against a truth, and folder against folder.

`LabelMaps`, `score` and `mean_dsc` judge what was just segmented; `evaluate` compares files,
those of any other system included.
"""

from __future__ import annotations

from clnet.platform.evaluation.evaluate import Evaluation, evaluate
from clnet.platform.evaluation.held_out import LabelMaps, Score, mean_dsc, score

__all__ = ["Evaluation", "LabelMaps", "Score", "evaluate", "mean_dsc", "score"]
