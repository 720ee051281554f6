"""Numbers in words, drawings, methods, checklist, card and survey page."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sample_report

from medgraft.report import grids, plots, svg
from medgraft.report.card import plain, render_card, write_card
from medgraft.report.checklist import CLAIM, TRIPOD, checklist
from medgraft.report.choices import probe_words
from medgraft.report.methods import REFERENCES, methods
from medgraft.report.phrases import (
    clean,
    decimal,
    duration,
    percent,
    rule_words,
    sentence,
    share_with_interval,
    whole,
    with_interval,
)
from medgraft.report.score_names import NAMES, interval_note, named
from medgraft.report.survey_page import render_survey, write_survey_page
from medgraft.scores.instances import instance_table
from medgraft.scores.mask_cases import mask_scores
from medgraft.scores.mask_tables import mask_class_table, mask_table


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.91249, "0.912"),
        (-0.25, "−0.250"),
        (-0.0001, "0.000"),
        (123.456, "123.5"),
        (-12345.6, "−12\u202f346"),
        (None, "not computable"),
        (float("nan"), "not computable"),
    ],
)
def test_decimals(value: float | None, words: str) -> None:
    assert decimal(value) == words


@pytest.mark.parametrize(
    ("share", "words"),
    [(0.5, "50 %"), (1.0, "100 %"), (0.0, "0 %"), (0.999, "> 99 %"), (0.001, "< 1 %"), (None, "not computable")],
)
def test_percent_never_rounds_to_all_or_nothing(share: float | None, words: str) -> None:
    assert percent(share).replace("\u00a0", " ") == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(3.14, "3.1 s"), (75, "75 s"), (94.2, "1 min 34 s"), (3600, "1 h"), (3720, "1 h 2 min")]
)
def test_duration(seconds: float, words: str) -> None:
    assert duration(seconds).replace("\u00a0", " ") == words


def test_words_of_scores() -> None:
    assert with_interval({"value": None, "why": "one class"}) == "not computable (one class)"
    assert with_interval({"value": 0.5, "low": None, "high": None}) == "0.500 (no interval)"
    words = share_with_interval({"value": 0.875, "low": 0.8, "high": 0.94})
    assert words.replace("\u00a0", " ") == "88 % (95 % CI 80 % to 94 %)"
    assert sentence("made with seed 0") == "Made with seed 0."
    assert sentence("") == ""


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("youden", "Youden’s index"),
        ("specificity>=0.9", "a specificity of at least 0.9"),
        (None, "a fixed rule"),
        ("x", "x"),
    ],
)
def test_rules_in_words(rule: str | None, words: str) -> None:
    assert rule_words(rule) == words


def test_clean_shows_what_hides() -> None:
    assert clean("a\x1b[2J\u202eb\ud800\x00c") == "a�[2J�b��c"
    assert clean("Ünïcode 肺炎\tx\n") == "Ünïcode 肺炎\tx\n"


def test_score_names_speak() -> None:
    assert named("ppv@0.01").means == "if 1 % of the images were positive"
    assert named("auroc", classes=5).means == "mean over classes, each against the rest"
    assert named("auroc").spoken == "AUROC"
    assert named("balanced_accuracy").spoken == "balanced accuracy"
    assert named("brier").spoken == "Brier score"
    assert named("made_up").title == "made up"
    assert all(name.title for name in NAMES.values())


def test_names_of_masks_speak_of_pixels_and_of_things() -> None:
    assert named("sensitivity", of="pixels").means == "share of the true pixels that are found"
    assert named("sensitivity").means == "share of cases that are found"
    assert named("count_mae", of="things").means != named("count_mae").means
    assert named("hd95_mm").lower_is_better and not named("hd95_mm").unit_range
    assert not named("volume_error").lower_is_better and named("volume_error_abs").lower_is_better
    assert named("volume_bias_mm3").title == "Volume bias (mm³)"


def test_every_score_of_a_mask_has_a_name() -> None:
    flat = mask_scores(
        np.eye(5, dtype=int), np.eye(5, dtype=int), classes=["a"], spacing_mm=None, tolerance=1, thin=True
    )
    for case in (flat, replace(flat, unit="mm"), replace(flat, unit="mm", axes=3)):
        words = {"classes": ["a"], "patients": None, "seed": 0, "count": 10, "unit": case.unit, "tolerance": 1}
        assert set(mask_table([case], **words)) | set(mask_class_table([case], **words)["a"]) <= set(NAMES)
    assert set(instance_table([], patients=None, seed=0)) <= set(NAMES)


def test_interval_note_groups_by_method() -> None:
    scores = {"auroc": {"value": 1, "low": 0, "method": "DeLong"}, "f1": {"value": 1, "low": 0, "method": "bootstrap"}}
    scores["mcc"] = {"value": 1, "low": 0, "method": "bootstrap"}
    assert interval_note(scores) == "Intervals: bootstrap; DeLong (AUROC)."
    scores["ece"] = {"value": 1, "low": 0, "method": "bootstrap (6 of 2000 resamples could not be computed)"}
    assert interval_note(scores).endswith("(AUROC). Up to 6 of 2000 resamples of a score could not be computed.")
    assert interval_note({"f1": {"value": 1}}) == ""


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.0, 17.0), (1e-6, 3e-6), (0.0, 12345.0), (5.0, 5.0)])
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    found = svg.ticks(low, high)
    assert found
    assert len(found) <= 12
    assert all(low - 1e-9 <= value <= high + 1e-9 for value in found)


def test_ticks_of_nonsense() -> None:
    assert svg.ticks(float("nan"), 1.0) == []


def test_shorten_keeps_both_ends_and_the_room() -> None:
    name = "a very long name of a class that ends in number 7"
    cut = svg.shorten(name, 120)
    assert svg.width_of(cut) <= 120
    assert cut.startswith("a ver")
    assert cut.endswith("7")
    assert svg.shorten("short", 120) == "short"


def test_colours_are_told_apart_on_white() -> None:
    def light(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for colour in (*svg.COLOURS, svg.MUTED, svg.INK):
        assert 1.05 / (light(colour) + 0.05) >= 3.0, colour  # WCAG 2.2, graphics


def test_a_path_breaks_where_a_number_is_missing() -> None:
    panel = svg.Panel(0, 0, 100, 100, (0, 4), (0, 1))
    drawn = panel.path([0, 1, 2, 3, 4], [0, 0.5, float("nan"), 0.25, 1], colour="#000000")
    assert drawn.count("M") == 2
    assert "nan" not in drawn
    assert panel.path([0, 1], [None, None], colour="#000000") == ""


def test_point_lands_where_it_should() -> None:
    panel = svg.Panel(10, 20, 200, 100, (0, 2), (-1, 1))
    assert (panel.x(1), panel.y(1), panel.y(-1)) == (110, 20, 120)


def test_confusion_matrix_with_a_class_nobody_has() -> None:
    drawn = grids.confusion(["a", "b", "c"], [[5, 1, 0], [0, 0, 0], [2, 0, 9]])
    numbers = re.findall(r">(\d+)</text>", drawn)
    assert numbers == ["5", "1", "0", "0", "0", "0", "2", "0", "9"]
    assert "83" in drawn


def test_confusion_of_many_classes_numbers_its_columns() -> None:
    drawn = grids.confusion([f"kind {i}" for i in range(12)], np.eye(12, dtype=int).tolist())
    assert ">12</text>" in drawn
    assert "12  kind 11" in drawn


def test_forest_keeps_groups_together_and_marks_the_whole() -> None:
    rows = [{"covariate": c, "group": g, "n": 9, "score": sample_report.score(0.8)} for c, g in ("sA", "tB", "sC")]
    drawn = grids.forest(rows, overall=sample_report.score(0.7), title="AUROC", chance=0.5)
    assert drawn is not None
    assert drawn.index(">A<") < drawn.index(">C<") < drawn.index(">B<")
    assert ">all<" in drawn
    assert grids.forest([], overall=None, title="AUROC", chance=None) is None


def test_plots_of_too_little_data_are_absent() -> None:
    assert plots.training([{"epoch": 1, "loss": None}], names=("loss",), best=None, y_label="Loss") is None
    assert plots.agreement([1.0], [2.0], unit="") is None
    assert plots.depth_curve([{"thawed": 0, "val": {"value": None, "why": "x"}}], chosen=0, y_label="AUROC") is None
    assert plots.training([{"epoch": 1, "loss": 0.5}], names=("loss",), best=1, y_label="Loss") is not None


def test_bland_altman_numbers() -> None:
    drawn = plots.agreement([1.0, 2.0, 3.0, 4.0], [2.0, 3.0, 4.0, 5.0], unit="mm")
    assert drawn is not None
    assert "bias 1.00" in drawn[1]
    assert "+1.96 SD 1.00" in drawn[1]


def test_depth_curve_marks_the_chosen_one() -> None:
    curve = [{"thawed": k, "name": f"stage {k}", "val": sample_report.score(0.7 + 0.05 * k)} for k in range(3)]
    drawn = plots.depth_curve(curve, chosen="stage 2", y_label="AUROC")
    assert drawn is not None
    assert drawn.count(f'fill="{svg.RUST}"') == 1


def test_methods_say_what_was_done_and_cite_in_order() -> None:
    report, _ = sample_report.binary()
    found = methods(report)
    text = " ".join(found["paragraphs"])
    assert "1\u202f075 images of 671 patients: 752 for training, 108 for validation and 215 for test" in text
    for name in ("delong", "sun", "temperature", "youden", "adamw", "claim", "tripod"):
        assert REFERENCES[name] in found["references"]
    assert REFERENCES["kappa"] not in found["references"]
    cited = [int(n) for group in re.findall(r"\[([\d,]+)\]", text) for n in group.split(",")]
    assert list(dict.fromkeys(cited)) == list(range(1, len(found["references"]) + 1))


PROBE = {"strength": 0.0316227, "folds": 5, "images": 752, "views": 2, "loss": 0.3, "tried": [[0.0316227, 0.4]]}


def test_methods_tell_of_a_probe_and_of_tuning_from_there() -> None:
    report, _ = sample_report.binary()
    report["training"] |= {"probe": PROBE, "best_epoch": 0}
    report["backbone"] |= {"pooling": "levels", "recalibrated": 752}
    found = methods(report)
    text = " ".join(found["paragraphs"])
    assert "averages of the encoder’s last three levels" in text
    assert "estimated anew on 752 training images, without labels" in text
    assert "of 752 training images, each as it is and in 1 augmented view, by L-BFGS" in text
    assert "penalty, 0.0316, had the least loss in 5-fold cross-validation within these images, with the images" in text
    assert "From there [" in text and "none was better than the probe, which was kept" in text
    for name in ("probe", "lbfgs", "tuning", "norms", "adamw"):
        assert REFERENCES[name] in found["references"]
    answers = {row["item"]: row["answer"] for row in checklist(report)["filled"]}
    assert answers["CLAIM 26"].startswith("No epoch had a better validation AUROC than the weights of the probe")


def test_methods_of_a_probe_alone_tell_of_no_training() -> None:
    report, _ = sample_report.binary()
    gone = ("batch_size", "optimiser", "learning_rate", "weight_decay", "schedule", "ema", "stopped")
    report["training"] |= {
        "probe": {**PROBE, "folds": 0, "views": 1},
        "epochs": 0,
        "epochs_planned": 0,
        "best_epoch": 0,
    }
    report["training"] |= dict.fromkeys(gone)
    text = " ".join(methods(report)["paragraphs"])
    assert "by L-BFGS" in text and "cross-validation" not in text and "augmented view" not in text
    for words in ("trained with", "epoch", "schedule"):
        assert words not in text
    answers = {row["item"]: row["answer"] for row in checklist(report)["filled"]}
    assert "no epoch was chosen" in answers["CLAIM 26"]


def test_a_penalty_says_how_it_was_chosen() -> None:
    assert probe_words(PROBE) == "penalty 0.0316, chosen by cross-validation in 5 parts of the 752 training images"
    assert "too few training images" in probe_words({**PROBE, "folds": 0})


def test_own_methods_replace_ours() -> None:
    assert methods({"methods": "We did it."}) == {"paragraphs": ["We did it."], "references": []}


def test_checklist_has_all_items_once() -> None:
    report, _ = sample_report.binary()
    found = checklist(report)
    items = [one["item"] for part in found.values() for one in part]
    assert len(items) == len(set(items)) == 44 + 27 == len(CLAIM) + len(TRIPOD)
    answered = {one["item"]: one["answer"] for one in found["filled"]}
    assert "patient" in answered["CLAIM 20"]
    assert "CLAIM 44" not in answered  # funding is the authors' to say
    told = checklist({**report, "checklist": {"CLAIM 44": "None."}})
    assert {"item": "CLAIM 44", "topic": "Funding", "answer": "None."} in told["filled"]


def test_card_is_complete(tmp_path: Path) -> None:
    report, _ = sample_report.binary()
    text = write_card(report, tmp_path).read_text(encoding="utf-8")
    assert text == render_card(report)
    for words in ("Trained on phantoms", "not a medical device", "## Intended use", "Not stated by the authors"):
        assert words in text
    assert "| AUROC | 0.912 | 0.869 to 0.946 | 215 | 134 |" in text
    assert "| site: D | AUROC | – | not computable: all four images are of one class | 4 | 3 |" in text
    assert f"sha256 of model.safetensors: `{'ab' * 32}`" in text
    assert "Licence of the encoder's weights: Apache-2.0" in text
    assert "None" not in text.replace("None known", "")


def test_card_keeps_foreign_words_in_their_cells() -> None:
    report, _ = copy.deepcopy(sample_report.binary())
    report.update(title="a\n# b", classes=["x|y", "<img src=x>"], positive="x|y")
    text = render_card(report)
    assert text.splitlines()[0] == "# Model card: a \\# b"
    assert "x\\|y, \\<img src=x\\>" in text
    assert "<img" not in text.replace("\\<img", "")
    assert plain("`*_[a](b)_*`") == "\\`\\*\\_\\[a\\](b)\\_\\*\\`"


def test_card_of_almost_nothing() -> None:
    text = render_card({"task": "classify"})
    assert text.startswith("# Model card: classify model")
    assert "not scored on a test set" in text


def _survey() -> dict:
    pair = {
        "first": "train/a.png",
        "second": "test/<b>.png",
        "kind": "near",
        "score": 0.987,
        "how": "flipped left-right",
    }
    leak = {
        "kind": "near",
        "first": "train/a.png",
        "second": "test/<b>.png",
        "splits": ["train", "test"],
        "patient": None,
    }
    return {
        "root": "/data/chest <x-ray>",
        "layout": "folder",
        "why": "one folder a class",
        "images": 967,
        "labelled": 960,
        "patients": None,
        "classes": {"ill": {"all": 300, "train": 200, "test": 100}, "well": {"all": 667, "train": 567, "test": 100}},
        "task": ["classify", "two class names"],
        "height": {"low": 480.0, "median": 512.0, "high": 768.0},
        "width": {"low": 512.0, "median": 512.0, "high": 512.0},
        "shapes": {"3 x 512 x 512": 900, "1 x 512 x 512": 67},
        "bits": {"8": 967},
        "gray": 67,
        "intensity": {"8-bit": {"mean": 90.0, "std": 40.0, "low": 0.0, "high": 255.0, "images": 967}},
        "quarantine": [{"path": "c.png", "reason": "the file ends early"}],
        "duplicates": {"exact": 0, "near": 1, "groups": 1, "pairs": [pair]},
        "leaks": {"count": 1, "kinds": {"near": 1}, "pairs": [leak]},
        "notes": ["the table starts with a byte order mark"],
        "warnings": ["the given splits share 1 pairs of samples", "8-bit and 16-bit images are mixed"],
    }


def test_survey_page_shows_pairs_leaks_and_quarantine(tmp_path: Path) -> None:
    thumbnails = {"train/a.png": np.zeros((64, 64), np.uint8), "test/<b>.png": np.zeros((64, 64), np.uint8)}
    page = write_survey_page(_survey(), folder=tmp_path, thumbnails=thumbnails).read_text(encoding="utf-8")
    for words in ("967 images in 2 classes.", "Leaks between parts", "flipped left-right", "the file ends early"):
        assert words in page
    assert "Content-Security-Policy" in page
    assert "test/&lt;b&gt;.png" in page
    assert "<b>.png" not in page
    assert page.count("data:image/png") == 4
    assert "The table starts with a byte order mark." in page
    assert page.count("share") >= 1
    assert "given splits share" not in page  # said once, above


def test_survey_page_of_a_clean_set_has_no_section_of_faults() -> None:
    clean_set = {**_survey(), "quarantine": [], "duplicates": {"exact": 0, "near": 0, "pairs": []}, "notes": []}
    clean_set |= {"leaks": {"count": 0, "pairs": []}, "warnings": [], "patients": 12}
    page = render_survey(clean_set, phantoms=True)
    assert re.findall(r'<span class="no">\d+</span>(.*?)</h2>', page) == ["Classes", "Images"]
    assert 'class="warning' not in page
    assert "These are phantoms" in page


def test_whole_has_thin_spaces() -> None:
    assert whole(11181642) == "11\u202f181\u202f642"
