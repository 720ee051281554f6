"""A run explained and inspected from end to end: files, figures, masks, and what is said where something is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image as Picture

import medgraft as mg
from medgraft import inspecting
from medgraft.errors import BadData, BadImage, BadRecipe, BadTable
from medgraft.files import write_dicom
from medgraft.phantoms.write import write_set
from test_run import QUICK
from tiny_data import make_tiny_data

OPTIONS: dict[str, Any] = {**QUICK, "label_column": "label", "epochs": 12}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("explained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDGRAFT_HOME", str(folder / "home"))
        yield folder


@pytest.fixture(scope="module")
def run(home: Path) -> Path:
    table = make_tiny_data(home / "tiny", patients=48)
    off = {"scores.learning": False, "scores.shortcuts": False, "scores.stress": False}
    mg.train(table, out=home / "run", **{**OPTIONS, "settings": {**OPTIONS["settings"], **off}})
    return home / "run"


@pytest.fixture(scope="module")
def masks(home: Path, run: Path) -> Path:
    """Get a table of images of the ill with the disc that makes them ill; one of the other class has no mask."""
    folder = home / "tiny"
    y, x = np.mgrid[:40, :40]
    disc = ((y - 20) ** 2 + (x - 14) ** 2 < 60).astype(np.uint8) * 255
    Picture.fromarray(disc).save(folder / "disc-mask.png")
    rows = ["path,mask", *(f"p{person:02d}_0.png,disc-mask.png" for person in (1, 3, 5)), "p00_0.png,"]
    (folder / "masks.csv").write_text("\n".join(rows) + "\n")
    return folder / "masks.csv"


def test_maps_are_in_the_files_own_pixels(run: Path, masks: Path, home: Path) -> None:
    told = mg.explain(run, [masks], out=home / "maps", target="ill")
    assert told["count"] == 4 and told["pointing"]["n"] == 3
    assert told == json.loads((home / "maps" / "explain.json").read_text())
    for row in told["images"]:
        values = np.load(home / "maps" / row["files"]["npy"])
        assert values.shape == (40, 40) and values.dtype == np.float32 and values.min() >= 0 and values.max() <= 1
        side = 160 if row["faults"] else 40  # the stamp needs room
        assert Picture.open(home / "maps" / row["files"]["png"]).size == (side, side)
        assert row["answer"] == "ill" and -1 <= row["randomised"] <= 1
    page = (home / "maps" / "explain.html").read_text()
    assert page.count("<img") == 4 and "<script" not in page and "Pointed at the mask" in page


def test_without_a_target_the_map_is_of_what_is_predicted(run: Path, home: Path) -> None:
    """Whatever the operating threshold makes of the largest logit."""
    opened = mg.open_run(run)
    for threshold in (0.0, 1.0):
        opened.model.task.threshold = (threshold,)
        (found,) = opened.explain([home / "tiny" / "p01_0.png"])
        assert found.answer == found.prediction.predicted


def test_each_file_gets_the_forms_that_suit_it(run: Path, home: Path) -> None:
    """The same picture, not square, as PNG, DICOM and NIfTI: the same map, each on the grid of its file."""
    folder = home / "forms"
    folder.mkdir()
    rows = np.asarray(Picture.open(home / "tiny" / "p01_0.png"))[:32, :, 0]
    Picture.fromarray(rows).save(folder / "a.png")
    write_dicom(folder / "b.dcm", rows, WindowCenter="127.5", WindowWidth="256", FrameOfReferenceUID="1.2.3")
    affine = np.array([[0, 2.0, 0, 5], [-1.5, 0, 0, 6], [0, 0, 3, 7], [0, 0, 0, 1]])
    source = nibabel.Nifti1Image(rows.T[..., None].astype(np.uint8), affine)
    source.header["cal_max"] = 255
    nibabel.save(source, folder / "c.nii.gz")
    told = mg.explain(run, [folder], out=home / "form-maps")
    files = [row["files"] for row in told["images"]]
    assert [sorted(one) for one in files] == [
        ["npy", "png"],
        ["dicom", "dicom_words", "npy", "png"],
        ["nifti", "npy", "png"],
    ]
    out = home / "form-maps"
    values = [np.load(out / one["npy"]) for one in files]
    assert all(one.shape == (32, 40) for one in values)
    assert np.abs(values[1] - values[0]).max() < 0.1 and np.abs(values[2] - values[0]).max() < 0.1
    made = nibabel.load(out / files[2]["nifti"])
    assert np.array_equal(made.affine, affine) and np.array_equal(np.asarray(made.dataobj)[..., 0].T, values[2])
    stored, words = np.load(out / files[1]["dicom"]), json.loads((out / files[1]["dicom_words"]).read_text())
    assert stored.dtype == np.uint16 and (words["Rows"], words["Columns"]) == stored.shape
    assert np.allclose(stored * words["RescaleSlope"] + words["RescaleIntercept"], values[1], atol=1e-4)
    dataset = pydicom.dcmread(folder / "b.dcm")
    assert words["source"]["SOPInstanceUID"] == dataset.SOPInstanceUID and words["FrameOfReferenceUID"] == "1.2.3"
    asked = mg.explain(run, [folder / "a.png"], out=home / "asked", nifti=True)["images"][0]["files"]
    assert np.array_equal(np.asarray(nibabel.load(home / "asked" / asked["nifti"]).dataobj)[..., 0].T, values[0])


def test_a_map_that_fails_is_stamped(run: Path, masks: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the net's own weights in place of random ones the two maps are the same."""
    from medgraft.explanation import maker

    monkeypatch.setattr(maker, "randomised", lambda task, seed: task)
    told = mg.explain(run, [masks], out=home / "failing")
    assert told["failed"] == 4
    assert all("random weights" in row["faults"][0] for row in told["images"])
    assert "Fails: a net with random weights" in (home / "failing" / "explain.html").read_text()
    stamped = np.asarray(Picture.open(home / "failing" / told["images"][0]["files"]["png"]))
    assert (stamped[-1, -1] == [160, 0, 0]).all()


def test_one_broken_image_is_named_and_passed_over(run: Path, home: Path) -> None:
    folder = home / "some"
    folder.mkdir()
    (folder / "broken.png").write_bytes(b"no picture")
    Picture.open(home / "tiny" / "p01_0.png").save(folder / "good.png")
    said: list[dict[str, Any]] = []
    told = mg.explain(run, [folder], out=home / "some-maps", listen=said.append)
    assert told["count"] == 1 and any("broken.png" in str(event.get("text")) for event in said)
    with pytest.raises(BadImage, match=r"broken\.png"):
        mg.explain(run, [folder / "broken.png"], out=home / "none-maps")


def test_maps_stand_beside_mistakes(run: Path, home: Path) -> None:
    """Every label is false, so that there are mistakes."""
    report = json.loads((run / "report.json").read_text())
    assert report["maps"]["method"] == mg.open_run(run).explain([home / "tiny" / "p01_0.png"])[0].method
    parts = json.loads((run / "samples.json").read_text())
    wrong = {"ill": "well", "well": "ill"}
    rows = [
        f"{key},{wrong[label]},{patient}" for key, (_, label, patient, split, _) in parts.items() if split == "test"
    ]
    (home / "tiny" / "false.csv").write_text("\n".join(["path,label,patient", *rows]) + "\n")
    told = mg.evaluate(run, home / "tiny" / "false.csv", out=home / "evaluated", label_column="label")
    assert 0 < told["maps"]["images"] <= 6 and 0 <= told["maps"]["failed"] <= told["maps"]["images"]
    page = (home / "evaluated" / "report.html").read_text()
    assert page.count('alt="where the model looked"') == told["maps"]["images"]
    assert page.count("Its map says nothing") == told["maps"]["failed"]


def test_wrong_words_are_refused_in_words(run: Path, masks: Path, home: Path) -> None:
    with pytest.raises(BadRecipe, match="no class 'healthy'"):
        mg.explain(run, [masks], out=home / "x", target="healthy")
    with pytest.raises(BadRecipe, match="no attention"):
        mg.explain(run, [masks], out=home / "x", method="attention")
    (home / "tiny" / "odd.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BadTable, match="no column names the image files"):
        mg.explain(run, [home / "tiny" / "odd.csv"], out=home / "x")


def test_maps_in_python(run: Path, home: Path) -> None:
    (found,) = mg.open_run(run).explain([home / "tiny" / "p01_0.png"])
    assert found.map.shape == (40, 40) and found.method == "hirescam" and found.pointed is None
    assert found.prediction.predicted in ("ill", "well")


def test_each_frame_of_a_file_is_an_image(run: Path, home: Path) -> None:
    folder = home / "frames"
    folder.mkdir()
    rows = [np.asarray(Picture.open(home / "tiny" / f"p0{person}_0.png"))[..., 0] for person in (0, 1)]
    write_dicom(folder / "cine.dcm", np.stack(rows), WindowCenter="127.5", WindowWidth="256")
    Picture.fromarray(rows[0]).save(folder / "move.gif", save_all=True, append_images=[Picture.fromarray(rows[1])])
    np.save(folder / "rows.npy", np.stack(rows))
    keys = [f"{folder}/{name}#{k}" for name in ("cine.dcm", "move.gif", "rows.npy") for k in (0, 1)]
    done = mg.predict(run, folder, workers=0)
    assert [row["key"] for row in done.rows] == keys and done.failed == 0
    assert all(row["path"] in key for row, key in zip(done.rows, keys, strict=True))
    assert done.lines()[1].startswith(keys[1])
    ill = [float(row["p_ill"]) for row in done.rows]
    assert ill[0::2] == pytest.approx([ill[0]] * 3, abs=0.05) and ill[1::2] == pytest.approx([ill[1]] * 3, abs=0.05)
    assert abs(ill[0] - ill[1]) > 0.2
    assert [one.key for one in mg.open_run(run).predict([keys[1], folder / "rows.npy"])] == [keys[1], *keys[4:]]
    told = mg.explain(run, keys[1], out=home / "frame-maps")
    assert [row["key"] for row in told["images"]] == [keys[1]]
    assert told["images"][0]["files"]["png"] == "maps/0000-cine-frame1.png"
    words = json.loads((home / "frame-maps" / told["images"][0]["files"]["dicom_words"]).read_text())
    assert words["source"]["frame"] == 2


def test_a_mask_that_cannot_be_used_costs_the_pointing_alone(run: Path, masks: Path, home: Path) -> None:
    folder = masks.parent
    Picture.fromarray(np.zeros((10, 12), np.uint8)).save(folder / "small-mask.png")
    (folder / "broken-mask.png").write_bytes(b"no picture")
    bad = ("gone-mask.png", "small-mask.png", "broken-mask.png")
    rows = [f"p0{k}_0.png,{mask}" for k, mask in enumerate(("disc-mask.png", *bad))]
    (folder / "bad-masks.csv").write_text("\n".join(["path,Mask", *rows]) + "\n")
    said: list[dict[str, Any]] = []
    told = mg.explain(run, [folder / "bad-masks.csv"], out=home / "bad-masks", listen=said.append)
    assert told["count"] == 4 and told["pointing"]["n"] == 1
    for row, mask in zip(told["images"][1:], bad, strict=True):
        assert (
            row["pointed"] is None and mask in row["mask_error"] and (home / "bad-masks" / row["files"]["png"]).exists()
        )
        assert any(mask in str(event.get("text")) and row["key"] in str(event.get("text")) for event in said)
    assert "10 x 12 pixels, the image 40 x 40" in told["images"][2]["mask_error"]
    assert told["images"][0]["mask_error"] is None


def test_masks_of_one_image_are_one_mask(run: Path, masks: Path, home: Path) -> None:
    """The map's largest value lies on one of two masks, whichever comes last."""
    folder = masks.parent
    (found,) = mg.open_run(run).explain(folder / "p01_0.png")
    row, column = np.unravel_index(found.map.argmax(), found.map.shape)
    y, x = np.mgrid[:40, :40]
    near = np.hypot(y - row, x - column) < 3
    Picture.fromarray(near.astype(np.uint8)).save(folder / "near-mask.png")
    Picture.fromarray((np.hypot(y - row, x - column) > 15).astype(np.uint8)).save(folder / "far-mask.png")
    for names in (("near", "far"), ("far", "near"), ("far",)):
        lines = ["path,mask", *(f"p01_0.png,{name}-mask.png" for name in names)]
        (folder / "two-masks.csv").write_text("\n".join(lines) + "\n")
        told = mg.explain(run, folder / "two-masks.csv", out=home / "two-masks")
        assert told["count"] == 1 == told["pointing"]["n"] and told["pointing"]["hits"] == ("near" in names)


def test_long_names_and_double_endings(run: Path, home: Path) -> None:
    folder = home / "names"
    folder.mkdir()
    rows = np.asarray(Picture.open(home / "tiny" / "p01_0.png"))[..., 0]
    accents = "\u00e9" * 50  # two bytes each
    Picture.fromarray(rows).save(folder / f"{accents}{accents}{accents[:20]}x.png")  # 241 bytes and an ending
    nibabel.save(nibabel.Nifti1Image(rows.T[..., None], np.eye(4)), folder / "\u00f6.nii.gz")
    told = mg.explain(run, folder, out=home / "name-maps")
    names = [row["files"]["png"] for row in told["images"]]
    assert names == [f"maps/0000-{accents}.png", "maps/0001-\u00f6.png"]
    assert all((home / "name-maps" / path).exists() for row in told["images"] for path in row["files"].values())


def test_one_path_is_enough_in_python(run: Path, home: Path) -> None:
    path = home / "tiny" / "p01_0.png"
    opened = mg.open_run(run)
    for one in (path, str(path)):
        assert [found.key for found in opened.explain(one)] == [str(path)]
        assert mg.predict(opened, one, workers=0).count == 1
    assert mg.explain(opened, str(path), out=home / "one")["count"] == 1
    for call in (opened.explain, opened.predict, lambda given: mg.explain(opened, given, out=home / "no")):
        with pytest.raises(BadData, match="a path was expected, not float"):
            call([1.5])


# ---- inspect --------------------------------------------------------------------------


def test_a_run_is_inspected_stage_by_stage(run: Path, home: Path) -> None:
    told = mg.inspect(run, out=home / "inspected")
    assert told["nets"] == ["before tuning", "after tuning"]
    for rows in told["separability"].values():
        assert len(rows) == len(told["stages"]) and all(row["n"] == rows[0]["n"] for row in rows)
    assert len(told["head"]) == 10
    sizes = [abs(row["weight"]) for row in told["head"]]
    assert sizes == sorted(sizes, reverse=True) and all(row["answer"] == "ill" for row in told["head"])
    page = (home / "inspected" / "inspect.html").read_text()
    for words in ("The first filters", "Stage by stage", "before tuning", "The head"):
        assert words in page
    assert "<script" not in page


def test_the_strongest_feature_is_the_largest_difference_of_weights(run: Path, home: Path) -> None:
    opened = mg.open_run(run)
    weight = opened.model.task.head.linear.weight.detach().numpy()
    difference = weight[opened.classes.index("ill")] - weight[opened.classes.index("well")]
    told = mg.inspect(opened, out=home / "again")
    assert told["head"][0]["weight"] == pytest.approx(float(difference[np.abs(difference).argmax()]), rel=1e-5)


def test_images_are_inspected_by_lot_and_not_by_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspecting, "MOST", 40)
    rows = [{"target": "a" if place < 100 else "b", "key": str(place)} for place in range(200)]
    some = inspecting._some(rows, 3)
    assert len(some) == 40 and some == inspecting._some(rows, 3)
    assert 10 <= sum(row["target"] == "a" for row in some) <= 30


def test_a_backbone_is_inspected_with_images_and_without(run: Path, home: Path) -> None:
    alone = mg.inspect("embedded:resnet10t_small", out=home / "net", image_size=64)
    assert alone["stages"] == ["stem", "layer1", "layer2", "layer3", "layer4"] and "separability" not in alone
    with_images = mg.inspect("embedded:resnet10t_small", [home / "tiny"], out=home / "net2", image_size=64)
    assert with_images["stages"] == alone["stages"]
    page = (home / "net2" / "inspect.html").read_text()
    assert "Patches that excite units of layer4" in page and "The head is a logistic regression" not in page
    assert "Patches" not in (home / "net" / "inspect.html").read_text()


# ---- phantoms -------------------------------------------------------------------------


@pytest.mark.slow
def test_maps_point_at_the_lesions_of_phantoms(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a small run on fundus phantoms, where a seventh of all places counts as on a lesion.

    Well-trained nets point at more: docs/results.md.
    """
    monkeypatch.setenv("MEDGRAFT_HOME", str(home / "home"))
    off = {f"scores.{part}": False for part in ("learning", "shortcuts", "stress", "maps")}
    write_set("fundus", count=480, seed=1, size=112, out=home / "eyes")
    words: dict[str, Any] = {"backbone": "embedded:resnet10t", "depth": "all", "image_size": 96, "epochs": 3}
    report = mg.train(home / "eyes", out=home / "eyes-run", label_column="label", settings=off, **words)
    assert report["scores"]["test"]["auroc"]["value"] > 0.85
    table = write_set("fundus", count=100, seed=2, size=112, out=home / "others")
    rows = [row for row in table.read_text().splitlines() if "phantom" not in row.split(",")[0] or "retinopathy" in row]
    (home / "others" / "ill.csv").write_text("\n".join(rows) + "\n")
    told = mg.explain(home / "eyes-run", [home / "others" / "ill.csv"], out=home / "eye-maps", target="retinopathy")
    assert told["method"] == "hirescam" and told["pointing"]["n"] >= 40
    assert told["pointing"]["share"] > 0.45 and told["pointing"]["low"] > 0.3
    assert told["randomised"] < 0.3 and told["failed"] <= 0.2 * told["count"]
