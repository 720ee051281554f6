"""What is known of images without looking: numbers stand, words become columns, and training settles which count."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medgraft.samples.circumstances import properties, table
from medgraft.values import ImageRef, Sample

TRAINING = list(range(8))


def test_numbers_stand_as_they_are_and_gaps_get_the_middle() -> None:
    numbers, used = table({"age": ["50", "60", "", "70", "80", "60", "55", "65", "40", ""]}, TRAINING)
    assert used == ["age"] and numbers.shape == (10, 2)
    assert numbers[2, 0] == np.median([50, 60, 70, 80, 60, 55, 65]) and numbers[2, 1] == 1
    assert numbers[9].tolist() == numbers[2].tolist() and numbers[0].tolist() == [50, 0]


def test_words_of_training_images_become_columns() -> None:
    site = ["north", "south", "north", "south", "north", "south", "north", "rare", "west", "north"]
    numbers, used = table({"site": site}, TRAINING)
    assert used == ["site"] and numbers.shape == (10, 2)
    assert numbers.sum(axis=1).tolist() == [1, 1, 1, 1, 1, 1, 1, 0, 0, 1]  # "rare" is too rare, "west" was not seen


def test_what_does_not_vary_or_names_each_image_is_left_out() -> None:
    known = {"bits": ["8 bits"] * 10, "id": [f"id-{k}" for k in range(10)], "width": ["64"] * 10}
    numbers, used = table(known, TRAINING)
    assert used == [] and numbers.shape == (10, 0)


def test_size_format_tags_and_columns_are_known() -> None:
    samples = [
        Sample(
            "a", ImageRef(Path("a.png")), label="x", covariates={"site": "north", "Grade": "3", "z1": "2", "zoom": "1"}
        ),
        Sample("b", ImageRef(Path("b.JPG")), label="y", covariates={}),
    ]
    records = [
        {"shape": [3, 40, 60], "bits": 8, "gray": False, "facts": {"Manufacturer": "A"}},
        {"shape": [1, 20, 20], "bits": 12, "gray": True, "facts": {}},
    ]
    found = properties(samples, records)
    assert found["width"] == ["60", "20"] and found["aspect"] == ["1.5000", "1.0000"]
    assert found["format"] == [".png", ".jpg"] and found["colour"] == ["colour", "gray"]
    assert "column Grade" not in found and "column z1" not in found  # they are the answer in other words
    assert found["column zoom"] == ["1", ""]
    assert found["tag Manufacturer"] == ["A", ""] and found["column site"] == ["north", ""]
