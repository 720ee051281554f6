"""Synthetic images in a data set are counted and said, the more so where they judge."""

from __future__ import annotations

from pathlib import Path

from medgraft.samples.circumstances import properties
from medgraft.samples.synthetic import is_synthetic, synthetic_words
from medgraft.values import ImageRef, Sample


def sample(name: str, split: str, **covariates: str) -> Sample:
    return Sample(name, ImageRef(Path(name)), "ill", split=split, covariates=covariates)


def test_a_mark_in_the_table_or_in_the_name_counts():
    assert is_synthetic(sample("a.png", "train", synthetic="yes"))
    assert is_synthetic(sample("synthetic-0-00001.png", "train"))
    assert not is_synthetic(sample("a.png", "train", synthetic="")) and not is_synthetic(sample("a.png", "train"))


def test_what_is_said_depends_on_where_they_are():
    real = [sample(f"{k}.png", "test") for k in range(3)]
    assert synthetic_words(real) == []
    assert len(synthetic_words([*real, sample("s.png", "train", synthetic="yes")])) == 1
    said = synthetic_words([*real, sample("s.png", "test", synthetic="yes")])
    assert "1 of 4" in said[0] and "say nothing of patients" in said[1]


def test_the_number_of_a_drawing_is_no_circumstance():
    drawn = [sample(f"{k}.png", "train", synthetic="yes", seed="0", number=str(k)) for k in range(4)]
    records = [{"facts": {}, "shape": [3, 8, 8], "gray": False, "bits": 8, "error": None} for _ in drawn]
    found = properties(drawn, records)
    assert "column synthetic" in found and "column number" not in found and "column seed" not in found
