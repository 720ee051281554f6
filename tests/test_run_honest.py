"""What must not slip through: other weights, other rows, training images in an evaluation, wrong probabilities."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import medgraft as mg
from medgraft.errors import BadWeights, Leak
from medgraft.learn.model import graft
from medgraft.recipe import Recipe
from medgraft.samples.order import batch_slices
from medgraft.tasks.base import Answers
from test_run import QUICK


def _weights(path: Path, *, mean: float, std: float, seed: int = 0) -> str:
    """Save a small net with its own mean and std, as a user's file of weights."""
    import timm

    from medgraft.weights.tensors import save

    torch.manual_seed(seed)
    net = timm.create_model("test_resnet", pretrained=False)
    spec = {"arch": "timm:test_resnet", "image_size": 32, "mean": [mean] * 3, "std": [std] * 3}
    save(path, state=net.state_dict(), words={"input_spec": json.dumps(spec)})
    return f"file:{path}"


@pytest.mark.slow
@pytest.mark.parametrize(("mean", "std"), [(0.5, 0.5), (0.1, 0.3)])
def test_a_gray_model_opens_whatever_its_mean_and_std(tmp_path: Path, tiny_data: Path, mean: float, std: float) -> None:
    from PIL import Image

    for path in tiny_data.parent.glob("*.png"):
        Image.open(path).convert("L").save(path)
    name = _weights(tmp_path / "w.safetensors", mean=mean, std=std)
    mg.train(tiny_data, out=tmp_path / "run", **{**QUICK, "backbone": name, "epochs": 1})
    opened = mg.open_run(tmp_path / "run")
    assert opened.model.pixels.channels == 1
    assert len(opened.predict(tiny_data.parent / "p00_0.png")) == 1


def test_other_weights_under_the_same_name_are_refused(tmp_path: Path, tiny_data: Path) -> None:
    name = _weights(tmp_path / "w.safetensors", mean=0.5, std=0.5)
    planned = mg.plan(tiny_data, **{**QUICK, "backbone": name})
    _weights(tmp_path / "w.safetensors", mean=0.5, std=0.5, seed=1)
    with pytest.raises(BadWeights, match="not those of the recipe"):
        mg.train(tiny_data, out=tmp_path / "run", recipe=planned)


@pytest.mark.slow
def test_the_order_of_rows_changes_nothing(tmp_path: Path, tiny_data: Path) -> None:
    first = mg.train(tiny_data, out=tmp_path / "a", **{**QUICK, "epochs": 1})
    head, *rows = tiny_data.read_text().splitlines()
    tiny_data.write_text("\n".join([head, *rows[::-1]]) + "\n")
    second = mg.train(tiny_data, out=tmp_path / "b", **{**QUICK, "epochs": 1})
    assert first["checksums"] == second["checksums"]


def test_training_images_saved_again_are_found_in_an_evaluation(tmp_path: Path, tiny_data: Path) -> None:
    from PIL import Image

    mg.train(tiny_data, out=tmp_path / "run", **{**QUICK, "epochs": 1})
    again = tmp_path / "again"
    again.mkdir()
    for path in tiny_data.parent.glob("*.png"):
        Image.open(path).save(again / path.name, compress_level=1)
    (again / "table.csv").write_text(tiny_data.read_text())
    with pytest.raises(Leak):
        mg.evaluate(tmp_path / "run", again / "table.csv", out=tmp_path / "scores")


def test_copies_of_training_images_are_named_in_an_evaluation(tmp_path: Path, tiny_data: Path) -> None:
    from PIL import Image

    mg.train(tiny_data, out=tmp_path / "run", **{**QUICK, "epochs": 1})
    again = tmp_path / "again"
    again.mkdir()
    for path in tiny_data.parent.glob("*.png"):
        Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(again / f"{path.stem}.jpg", quality=90)
    (again / "table.csv").write_text(tiny_data.read_text().replace(".png", ".jpg").replace(",p", ",q"))
    report = mg.evaluate(tmp_path / "run", again / "table.csv", out=tmp_path / "scores")
    learnt = sum(row[3] != "test" for row in json.loads((tmp_path / "run" / "samples.json").read_text()).values())
    (said,) = [text for text in report["warnings"] if "look like copies" in text]
    assert said.startswith(f"{learnt} images look like copies") and ".jpg (like " in said


def test_patients_of_the_training_are_named_in_an_evaluation(tmp_path: Path, tiny_data: Path) -> None:
    from tiny_data import make_tiny_data

    mg.train(tiny_data, out=tmp_path / "run", **{**QUICK, "epochs": 1})
    other = make_tiny_data(tmp_path / "other", size=44)  # other pictures of p00 to p23
    report = mg.evaluate(tmp_path / "run", other, out=tmp_path / "scores")
    learnt = {
        row[2] for row in json.loads((tmp_path / "run" / "samples.json").read_text()).values() if row[3] != "test"
    }
    assert [w for w in report["warnings"] if w.startswith(f"{len(learnt)} patients bear the name")]
    other.write_text(other.read_text().replace(",p", ",another"))
    assert not any("bear the name" in w for w in mg.evaluate(tmp_path / "run", other, out=tmp_path / "new")["warnings"])


def test_colour_that_the_first_look_missed_is_kept(tmp_path: Path, tiny_data: Path) -> None:
    from PIL import Image

    said: list[str] = []
    coloured = {f"p{person:02d}_1.png" for person in range(6)}  # every second row is looked at first
    for path in tiny_data.parent.glob("*.png"):
        if path.name not in coloured:
            Image.open(path).convert("L").save(path)
    planned = mg.plan(tiny_data, **QUICK, listen=lambda event: said.append(str(event.get("text"))))
    assert planned.input.channels == 3 and planned.reasons["input.channels"] in said
    assert "6 of 48 images have colour" in planned.reasons["input.channels"]


def test_a_net_that_was_built_with_arguments_opens_again(tmp_path: Path, tiny_data: Path) -> None:
    """A hub's config.json may change the architecture; the model has to bring that along."""
    import timm

    from medgraft.weights.tensors import save

    net = timm.create_model("test_vit", pretrained=False, patch_size=8, img_size=32)
    config = {"architecture": "test_vit", "model_args": {"patch_size": 8, "checkpoint_path": "/no/such/file.pth"}}
    (tmp_path / "net").mkdir()
    save(tmp_path / "net" / "w.safetensors", state=net.state_dict(), words={})
    (tmp_path / "net" / "config.json").write_text(json.dumps({**config, "pretrained_cfg": {"fixed_input_size": True}}))
    mg.train(tiny_data, out=tmp_path / "run", **{**QUICK, "backbone": f"file:{tmp_path}/net/w.safetensors"})
    (tmp_path / "net" / "config.json").unlink()
    opened = mg.open_run(tmp_path / "run")
    assert opened.model.task.backbone.options["patch_size"] == 8
    assert opened.predict(tiny_data.parent / "p00_0.png")[0].predicted in ("ill", "well")


def test_evaluate_reads_the_column_of_the_training(tmp_path: Path, tiny_data: Path) -> None:
    from tiny_data import make_tiny_data

    mg.train(tiny_data, out=tmp_path / "run", **{**QUICK, "epochs": 1}, label_column="site")
    other = make_tiny_data(tmp_path / "other", size=44)
    report = mg.evaluate(tmp_path / "run", other, out=tmp_path / "scores")
    assert report["classes"] == ["north", "south"]
    assert set(report["data"]["classes"]) == {"north", "south"}


@pytest.mark.parametrize("classes", [2, 5])
def test_weighted_classes_leave_probabilities_honest(classes: int) -> None:
    names = tuple(f"c{i}" for i in range(classes))
    words: dict[str, Any] = {"backbone_name": QUICK["backbone"], "channels": 3, "image_size": 32}
    task = graft("classify", Answers(names, names[1] if classes == 2 else None), **words)
    counts = np.array([70, *[10] * (classes - 1)])
    targets = np.repeat(np.arange(classes), counts)
    task.balance(targets, "weights")
    # A head that learnt nothing from the images but the weighted frequencies gives equal logits.
    weighted = counts * task.class_weights.numpy()
    logits = np.log(weighted / weighted.sum())[None] + task.adjust.numpy()
    assert task.probabilities(logits)[0] == pytest.approx(counts / counts.sum(), abs=1e-5)


@pytest.mark.parametrize("mode", ["weights", "sampling"])
def test_balanced_grades_and_labels_keep_honest_probabilities(mode: str) -> None:
    """A head that learnt nothing but how often answers came, weighted or drawn, has to say how often they are."""
    words: dict[str, Any] = {"backbone_name": QUICK["backbone"], "channels": 3, "image_size": 32}
    grades = np.repeat([0, 1, 2], [80, 15, 5])
    task = graft("grade", Answers(("0", "1", "2"), None), **words)
    share = task.balance(grades, mode)
    weights = task.class_weights.numpy()[grades] if share is None else share
    above = ((grades[:, None] > np.arange(2)) * weights[:, None]).sum(axis=0) / weights.sum()
    logits = (np.log(above) - np.log1p(-above))[None] + task.adjust.numpy()
    assert task.probabilities(logits)[0] == pytest.approx([0.80, 0.15, 0.05], abs=1e-4)

    found = np.zeros((100, 2), np.float32)
    found[:5, 0] = found[3:40, 1] = 1
    task = graft("multilabel", Answers(("a", "b"), None), **words)
    share = task.balance(found, mode)
    if share is None:
        heavy = found * task.class_weights.numpy()
        rate = heavy.sum(axis=0) / (heavy + (1 - found)).sum(axis=0)
    else:
        rate = share @ found
    logits = (np.log(rate) - np.log1p(-rate))[None] + task.adjust.numpy()
    assert task.probabilities(logits)[0] == pytest.approx(found.mean(axis=0), abs=1e-4)


def test_a_reason_goes_with_its_value() -> None:
    planned = Recipe().changed({"depth.thaw": "all", "reasons": {"depth.thaw": "many patients", "task": "names"}})  # type: ignore[call-arg]
    assert planned.changed({"depth.thaw": "head"}).reasons == {"task": "names"}


@pytest.mark.parametrize(("count", "sizes"), [(8, [4, 4]), (9, [4, 5]), (10, [4, 4, 2]), (1, [1])])
def test_no_training_batch_is_a_single_image(count: int, sizes: list[int]) -> None:
    assert [part.stop - part.start for part in batch_slices(count, 4, training=True)] == sizes


def test_numbers_are_mixed_and_not_their_losses() -> None:
    words: dict[str, Any] = {"backbone_name": QUICK["backbone"], "channels": 3, "image_size": 32}
    task = graft("regress", Answers((), None, 0.0, 1.0), **words)
    share = torch.tensor(0.5)
    loss = task.mixed_loss(torch.tensor([[1.0]]), (torch.tensor([0.0]), torch.tensor([2.0])), share=share)
    assert float(loss) == 0.0
