"""Search spaces: which pruning rates are tried and how long a decoder may recover.

A space is one YAML file in `spaces/`; adding one touches no other file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from clnet.errors import InputError, NotFound
from clnet.tune_spaces.rewinding import Rewind

__all__ = ["SearchSpace", "list_spaces", "load_space"]

FOLDER = Path(__file__).resolve().parent / "spaces"


class SearchSpace(BaseModel):
    """What is tried.

    Attributes:
        rates: fractions of the convolution weights to cut, ascending; each is tried one-shot
            from the dense checkpoint. Those of 0 or less are skipped.
        scopes: what a rate is a share of: all weights (``global``), each layer's (``layer``), or
            whole channels (``channel``); every rate is tried in every scope.
        rewind: survivors go back to weights of the dense training: its ``init``, those after
            ``epoch:k`` or a fraction of it if it kept these, or ``early`` for whichever it kept.
            With ``none`` they keep their own and only the learning rate starts again.
        recovery_steps, recovery_epochs: batches to recover in; give one of the two. An epoch
            is the dense training's.
        learning_rate, warm_up: of the recovery; the dense training's by default.
        ema: momentum of the averaged weights of the recovery; the dense training's by default, so
            none where that had none. Pruning jobs take 0.99 by default.
        weights: ``float16``: the version that is judged and kept is its rounded weights, in half
            the bytes.
        reports: validations along the recovery; a trial may be stopped at any of them.
        grace: reports before a trial may be stopped.
        reduction_factor: of successive halving.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rates: tuple[float, ...] = Field(min_length=1)
    scopes: tuple[Literal["global", "layer", "channel"], ...] = Field(("global",), min_length=1)
    rewind: Rewind = "none"
    recovery_steps: int | None = Field(default=None, ge=1)
    recovery_epochs: int | None = Field(default=None, ge=1)
    learning_rate: float | None = Field(default=None, gt=0)
    warm_up: int | None = Field(default=None, ge=0)
    ema: float | None = Field(default=None, ge=0, lt=1)
    weights: Literal["float32", "float16"] = "float32"
    reports: int = Field(default=4, ge=1)
    grace: int = Field(default=2, ge=1)
    reduction_factor: int = Field(default=2, ge=2)

    @field_validator("rates")
    @classmethod
    def _cuts(cls, rates: tuple[float, ...]) -> tuple[float, ...]:
        if any(not rate < 1 for rate in rates):
            raise ValueError("rates lie below 1")
        cuts = tuple(rate for rate in rates if rate > 0)
        if not cuts:
            raise ValueError("every rate is 0 or less")
        if list(cuts) != sorted(set(cuts)):
            raise ValueError("rates must ascend, each once")
        return cuts

    @field_validator("scopes")
    @classmethod
    def _distinct(cls, scopes: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(scopes)) != len(scopes):
            raise ValueError("scopes must differ")
        return scopes

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.recovery_steps is None) == (self.recovery_epochs is None):
            raise ValueError("give recovery_steps or recovery_epochs")
        return self


def list_spaces(folder: Path = FOLDER) -> list[str]:
    """Names of the spaces there are."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def load_space(name: str | Path) -> SearchSpace:
    """A space by name, or from a file of the user's own.

    Raises:
        NotFound: no space of that name, no such file.
        InputError: the file is not a space; the message names the field.
    """
    path = FOLDER / f"{name}.yaml" if str(name) in list_spaces() else Path(name)
    if not path.is_file():
        raise NotFound(f"search space {name}: there are {', '.join(list_spaces())}; or give a file")
    try:
        return SearchSpace.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "file"
        raise InputError(f"{path}: {field}: {first['msg']}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML: {error}") from error
