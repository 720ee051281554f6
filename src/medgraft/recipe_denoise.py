"""The part of a recipe about noise that is taken away."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from medgraft.recipe_places import Section


class Denoising(Section):
    """How noise is taken away (task denoise)."""

    clean_column: str | None = Field(
        None, description="column of images without noise, to score by alone; nothing is learnt from them"
    )
    widths: list[Annotated[int, Field(ge=1)]] | None = Field(
        None, min_length=1, max_length=5, description="channels at each resolution, the finest first; planned"
    )
    side: int | None = Field(None, ge=16, multiple_of=16, description="pixels of a patch that is learnt from; planned")
    patches: int | None = Field(None, ge=1, description="parts of an image that are kept to cut patches from; planned")
    mirrored: bool = Field(True, description="look at an image four times, mirrored, and take the mean")
