"""What every table of a spec is: strict, frozen, no unknown keys; and the kinds of numbers in it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from study.errors import nearest, one_line

MOST = 2**31 - 1  # of a seed that every library takes, and beyond any count that could end
Positive = Annotated[int, Field(ge=1, le=MOST)]
NonNegative = Annotated[int, Field(ge=0, le=MOST)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Table(BaseModel):
    """A table of the TOML file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def known(name: str, names: list[str]) -> str:
    """``name``, if it is one of ``names``; ValueError with the nearest one else."""
    if name not in names:
        raise ValueError(f"unknown {one_line(name, 80)!r}{nearest(name, names)}; known: {', '.join(names)}")
    return name
