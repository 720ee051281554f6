"""Samples that no patient had: which of a data set are synthetic, and what a reader must know of that."""

from __future__ import annotations

from collections.abc import Sequence

from medgraft.values import Sample


def synthetic_words(samples: Sequence[Sample]) -> list[str]:
    """Say which images of a data set are synthetic, as `medgraft generate` marks them; nothing where none is.

    Args:
        samples: with their splits.
    """
    marked = [sample for sample in samples if is_synthetic(sample)]
    if not marked:
        return []
    said = [f"{len(marked)} of {len(samples)} images are synthetic: a program drew them, and no patient had them"]
    judges = [sample for sample in marked if sample.split in ("val", "test")]
    if judges:
        said.append(
            f"{len(judges)} images of the validation and test part are synthetic: these scores say nothing of "
            "patients; score the run on real images by medgraft evaluate"
        )
    return said


def is_synthetic(sample: Sample) -> bool:
    """Say whether a sample is marked as synthetic: by its table, or by its file's name."""
    told = sample.covariates.get("synthetic", "").strip().lower() in ("yes", "true", "1")
    return told or sample.image.path.name.startswith("synthetic-")
