"""Slices to turn over: which are shown, how small they are, and what the page runs and says of them."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sample_report
from PIL import Image as Pillow
from test_report_page import _NASTY, parsed, words_of

from medgraft.report.page import render_report
from medgraft.report.slices import BUTTONS, BYTES, MOST, SIDE, Mark, Stack, addresses, beside, chosen

MISSED = Mark("missed", "nodule", None, (10.5, 20, 30, 44.25), first=3, last=5, middle=4)
ALARM = Mark("alarm", "nodule", 0.834, (1, 2, 3, 4), first=8, last=8, middle=8)


def stack(**changed: Any) -> Stack:
    layers = [np.full((60, 80), 10 * level, np.uint8) for level in (0, 4, 8)]
    whole = Stack(layers, (0, 4, 8), 10, (60, 80), (-12.0, 0.0, 12.0), False, (MISSED, ALARM), begin=8, step=4)
    return replace(whole, **changed)


def page_of(**changed: Any) -> str:
    report, curves = sample_report.binary()
    card = {"kind": "mistake", "image": np.zeros((90, 120), np.uint8), "key": "a.nii.gz", "truth": "2 boxes"}
    one = {**card, "predicted": "1 false alarm", "stack": stack(**changed)}
    return render_report(report, curves=curves, gallery=[one])


@pytest.mark.parametrize("depth", [1, 9, 60, 61, 120, 121, 700])
def test_all_wanted_slices_are_shown_and_others_at_one_distance(depth: int) -> None:
    wanted = sorted({depth // 2, depth // 3, depth - 1})
    levels, step = chosen(depth, wanted)
    assert len(levels) <= MOST and list(levels) == sorted({*wanted, *range(0, depth, step)})
    assert step == 1 if depth <= MOST else len({*wanted, *range(0, depth, step - 1)}) > MOST


def test_too_many_wanted_slices_are_refused() -> None:
    with pytest.raises(ValueError, match="7 slices are wanted"):
        chosen(20, range(0, 14, 2), most=6)


@pytest.mark.parametrize("noise", [0, 6, 128])
def test_slices_stay_small_together(noise: int) -> None:
    random = np.random.default_rng(3)
    layers = [np.clip(random.normal(128, noise, (SIDE, SIDE - 40)), 0, 255).astype(np.uint8) for _ in range(MOST)]
    made = addresses(layers)
    assert len(made) == MOST and sum(map(len, made)) <= BYTES and 6 * BYTES < 4_000_000
    sizes = set()
    for address in made:
        kind, text = address.split(";base64,")
        picture = Pillow.open(io.BytesIO(base64.b64decode(text)))
        assert kind == f"data:image/{(picture.format or '').lower()}"
        sizes.add(picture.size)
    assert len(sizes) == 1 and max(sizes.pop()) == (SIDE if noise < 128 else 128)


def test_the_page_holds_each_slice_once_and_every_box_with_the_slices_that_it_is_in() -> None:
    page = page_of()
    found = parsed(page)
    assert not found.wrong and not found.open
    assert not [name for _, name, _ in found.attributes if name.startswith("on") or name == "style"]
    kept = page[page.index("<template>") : page.index("</template>")]
    assert re.findall(r'data-level="(\d+)"', kept) == ["0", "4", "8"]
    assert re.findall(r'alt="(.*?)"', kept) == [
        f"Slice {n} of 10, z {z} mm" for n, z in ((1, "−12.0"), (5, 0.0), (9, 12.0))
    ]
    drawn = re.findall(r'<rect class="(\w+)" x="(.*?)" y="(.*?)" width="(.*?)" height="(.*?)" data-first="(\d+)"', kept)
    assert drawn == [("alarm", "1", "2", "2", "2", "8"), ("missed", "10.5", "20", "19.5", "24.25", "3")]
    assert re.findall(r'data-last="(\d+)"', kept) == ["8", "5"] and 'viewBox="0 0 80 60"' in kept
    for words in ("Slice 9 of 10, z 12.0 mm", "missed: nodule slice 5", "false alarm: nodule 0.83 slice 9"):
        assert words in words_of(page)
    assert re.findall(r'class="(\w+)" data-turn="(\d)"', page) == [("missed", "1"), ("alarm", "2")]
    assert (
        'aria-label="Slice of a.nii.gz" aria-valuetext="Slice 9 of 10' in page and 'max="2" step="1" value="2"' in page
    )
    assert "3 of 10 slices: one in 4, and those through the middle of a box" in words_of(page)


def test_without_its_script_the_page_shows_one_slice_and_no_dead_controls() -> None:
    page = page_of()
    outside = re.sub(r"<template>.*?</template>|<script>.*?</script>", "", page, flags=re.S)
    assert len(re.findall(r'<div class="frame"><img src="data:image/', outside)) == 1
    assert 'alt="a.nii.gz. Slice 9 of 10, z 12.0 mm, boxes drawn in"' in outside
    hidden = re.findall(r"<(?:div|p) class=\"\w+ scripted\"( hidden)?>", outside)
    assert hidden == [" hidden", " hidden"]
    assert outside.index('<input type="range"') > outside.index('scripted" hidden>')


def test_the_script_is_the_only_one_that_the_policy_allows() -> None:
    page = page_of()
    scripts = re.findall(r"<script>(.*?)</script>", page, re.S)
    assert len(scripts) == 1 == page.count("<script")
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    assert policy and f"script-src 'sha256-{digest}';" in policy[1].replace("&#39;", "'")
    assert "unsafe" not in policy[1] and "default-src &#39;none&#39;" in policy[1]


def test_flat_images_have_neither_slices_nor_a_script() -> None:
    report, curves = sample_report.binary()
    page = render_report(report, curves=curves, gallery=sample_report.pictures()[0])
    assert beside({"image": np.zeros((4, 4), np.uint8)}) == {}
    for words in ("<script", "script-src", "<template", 'type="range"', 'stacks"', 'scripted"'):
        assert words not in page


def test_words_of_a_file_stay_words() -> None:
    page = page_of(marks=(replace(ALARM, label=f'{_NASTY}"'),))
    assert page.count("<script") == 1 and not parsed(page).wrong and f"false alarm: {_NASTY}" in words_of(page)


def test_many_boxes_are_all_drawn_and_the_first_have_buttons() -> None:
    page = page_of(marks=(MISSED, ALARM) * 20)
    assert page.count("<rect class=") >= 40 and page.count("data-first") == 40
    assert page.count("<button") == BUTTONS and f"Buttons for {BUTTONS} of 40 boxes." in words_of(page)


def test_a_scan_without_a_place_is_counted_from_its_first_slice() -> None:
    words = words_of(page_of(from_first=True))
    assert "Slice 9 of 10, 12.0 mm from the first" in words and "from the feet" not in words
    assert "counted from the feet" in words_of(page_of())
    assert "the others are left out" in words_of(page_of())
    assert "the others are left out" not in words_of(page_of(depth=3, levels=(0, 1, 2), begin=2, step=1, marks=()))
