"""Models that outline prompts: the same numbers as transformers' own way, and frames that lead there and back."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medgraft.errors import BadWeights, MissingExtra, UnknownName
from medgraft.nets.prompter import Prompter, PromptFrame
from medgraft.nets.prompter_sources import open_prompter
from medgraft.values import Prompt
from medgraft.weights.tensors import save_model
from tiny_sam import processor_of, save, tiny_sam, tiny_sam2, tiny_sam2_video

torch.set_num_threads(1)
KINDS = {"sam": tiny_sam, "sam2": tiny_sam2}
BOX, TWO = (12.0, 5.0, 50.0, 40.0), ((12.0, 5.0, 50.0, 40.0), (3.0, 30.0, 60.5, 70.0))
POINTS = ((20.0, 30.0, 1.0), (70.0, 10.0, 0.0))


def picture(height: int = 90, width: int = 100) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3)).astype(np.uint8)


def theirs(model: Any, image: np.ndarray, **words: Any) -> tuple[np.ndarray, np.ndarray]:
    """Masks `(P, K, H, W)` and qualities `(P, K)` by transformers' own processor, net and way back."""
    processor = processor_of(model)
    given = processor(images=image, return_tensors="pt", **words)
    sizes, reshaped = given.pop("original_sizes"), given.pop("reshaped_input_sizes", None)
    with torch.no_grad():
        told = model(**{name: v.float() if v.is_floating_point() else v for name, v in given.items()})
    more = () if reshaped is None else (reshaped,)
    masks = processor.image_processor.post_process_masks(told.pred_masks, sizes, *more)[0]
    return masks.numpy(), told.iou_scores[0].numpy()


@pytest.fixture(params=sorted(KINDS))
def both(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, Prompter]:
    model = KINDS[request.param]()
    return model, open_prompter(str(save(model, tmp_path / "model")))


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "box": ({"boxes": [BOX]}, {"input_boxes": [[list(BOX)]]}),
    "points": (
        {"points": POINTS},
        {"input_points": [[[list(p[:2]) for p in POINTS]]], "input_labels": [[[int(p[2]) for p in POINTS]]]},
    ),
    "box and point": (
        {"boxes": [BOX], "points": POINTS[:1]},
        {"input_boxes": [[list(BOX)]], "input_points": [[[list(POINTS[0][:2])]]], "input_labels": [[[1]]]},
    ),
}


@pytest.mark.parametrize("case", sorted(CASES))
@pytest.mark.parametrize("shape", [(90, 100), (40, 64), (64, 64), (130, 33)])
def test_answers_are_those_of_transformers(both, case, shape):
    model, mine = both
    ours, words = CASES[case]
    image = picture(*shape)
    masks, quality = theirs(model, image, **words)
    found = mine.decode(mine.encode(image), Prompt(**ours))
    assert found.masks.shape == (3, *shape)
    assert np.allclose(found.quality, quality[0], atol=1e-5)
    assert np.array_equal(found.masks, masks[0])
    assert 0 < masks[0].mean() < 1  # an empty answer would prove nothing


def test_several_prompts_at_once_are_those_of_transformers(both):
    model, mine = both
    image = picture()
    embedding = mine.encode(image)
    masks, quality = theirs(model, image, input_boxes=[[list(box) for box in TWO]])
    coarse = mine.guess(embedding, Prompt(boxes=np.array(TWO)).each())
    assert np.allclose(coarse.quality.numpy(), quality, atol=1e-5)
    assert np.array_equal((embedding.frame.back(coarse.logits.flatten(0, 1)) > 0).numpy(), masks.reshape(-1, 90, 100))
    with pytest.raises(ValueError, match="several"):
        mine.decode(embedding, Prompt(boxes=np.array(TWO)))


def test_a_mask_is_given_in_the_file_and_reaches_the_net_where_it_lies(both):
    model, mine = both
    image = picture(64, 64)
    guess = np.zeros((64, 64), bool)
    guess[16:48, 8:40] = True  # whole cells of the coarse grid, so that nothing is smoothed
    low = 4 * 64 // model.config.prompt_encoder_config.patch_size
    step = 64 // low
    inside = torch.from_numpy(guess[::step, ::step].astype(np.float32))
    given = processor_of(model)(images=image, input_boxes=[[list(BOX)]], return_tensors="pt")
    with torch.no_grad():
        told = model(
            pixel_values=given["pixel_values"],
            input_boxes=given["input_boxes"].float(),
            input_masks=torch.logit(inside.clamp(0.001, 0.999))[None, None],
        )
        plain = model(pixel_values=given["pixel_values"], input_boxes=given["input_boxes"].float())
    found = mine.guess(mine.encode(image), [Prompt(boxes=[BOX], mask=guess)])
    assert torch.allclose(found.logits, told.pred_masks[0], rtol=0, atol=1e-6)
    assert not torch.allclose(told.pred_masks, plain.pred_masks, atol=1e-3)


def test_a_mask_alone_is_a_prompt_and_several_are_asked_one_by_one(both):
    _, mine = both
    embedding = mine.encode(picture())
    one = np.zeros((90, 100), bool)
    one[10:50, 20:70] = True
    told = mine.guess(embedding, [Prompt(mask=one), Prompt(mask=~one)])
    assert torch.allclose(told.logits[1:], mine.guess(embedding, [Prompt(mask=~one)]).logits)
    assert not torch.allclose(told.logits[0], told.logits[1], atol=1e-4)
    assert mine.decode(embedding, Prompt(mask=one)).masks.shape == (3, 90, 100)


def test_sam_2_as_it_is_published_leaves_its_memory_out(tmp_path):
    still = tiny_sam2()
    tiny_sam2_video(still).save_pretrained(tmp_path / "video")
    found = [open_prompter(str(folder)) for folder in (tmp_path / "video", save(still, tmp_path / "still"))]
    first, second = (one.decode(one.encode(picture()), Prompt(boxes=[BOX])) for one in found)
    assert np.array_equal(first.masks, second.masks) and np.array_equal(first.quality, second.quality)


@given(st.integers(3, 300), st.integers(3, 300), st.booleans(), st.floats(0, 1), st.floats(0, 1))
def test_places_come_back_to_where_they_were(height, width, fitted, x, y):
    frame = (PromptFrame.fitted if fitted else PromptFrame.stretched)((height, width), 64)
    place = np.array([x * width, y * height])
    there = frame.places(place)
    assert (there >= 0).all() and (there <= np.array(frame.to_shape[::-1]) + 1e-9).all()
    assert np.allclose(frame.places_back(there), place)


@pytest.mark.parametrize("fitted", [True, False])
@pytest.mark.parametrize("shape", [(64, 64), (128, 128), (64, 32), (32, 64), (32, 32)])
def test_a_mask_comes_back_to_its_own_pixels(fitted, shape):
    """What a net sees at a coarse grid is, stretched back, the very pixels of which it was made, but for corners."""
    frame = (PromptFrame.fitted if fitted else PromptFrame.stretched)(shape, 64)
    rows, columns = np.indices(shape)
    mask = (rows >= shape[0] // 4) & (rows < shape[0] // 2) & (columns >= shape[1] // 4)
    back = frame.back(frame.guess(mask, (64, 64))[None])[0].numpy() > 0
    assert (back != mask).sum() <= (4 if max(shape) > 64 else 0)


def _without(name: str) -> Callable[[Path], Path]:
    def act(folder: Path) -> Path:
        (folder / name).unlink()
        return folder

    return act


def _of_bert(folder: Path) -> Path:
    (folder / "config.json").write_text('{"model_type": "bert"}')
    return folder


def _cut(folder: Path) -> Path:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    return folder


def _other_size(folder: Path) -> Path:
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace('"hidden_size": 24', '"hidden_size": 48'))
    return folder


def _no_json(folder: Path) -> Path:
    (folder / "config.json").write_text("[1, 2")
    return folder


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_without("config.json"), "no config.json"),
        (_without("model.safetensors"), "no model.safetensors"),
        (_of_bert, "'bert'"),
        (_cut, "damaged|cut short"),
        (_other_size, "another shape"),
        (_no_json, "cannot be read"),
    ],
)
def test_a_broken_folder_says_what_is_wrong(tmp_path, spoil, said):
    folder = spoil(save(tiny_sam(), tmp_path / "model"))
    with pytest.raises(BadWeights, match=said) as caught:
        open_prompter(str(folder))
    assert str(tmp_path) in str(caught.value)


def _changed(folder: Path, part: str = "", **words: Any) -> Path:
    config = json.loads((folder / "config.json").read_text())
    (config[part] if part else config).update(words)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("part", ["", "vision_config", "mask_decoder_config"])
@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "_attn_implementation_internal"])
def test_a_config_cannot_name_code_that_is_fetched(tmp_path, monkeypatch, part, key):
    from transformers import modeling_utils

    asked: list[Any] = []
    wanted = modeling_utils.PreTrainedModel.get_correct_attn_implementation
    hear = lambda self, name, *more, **words: asked.append(name) or wanted(self, name, *more, **words)  # noqa: E731
    monkeypatch.setattr(modeling_utils.PreTrainedModel, "get_correct_attn_implementation", hear)
    more = {"quantization_config": {"quant_method": "x"}, "auto_map": {"AutoModel": "evil--x.y"}}
    folder = _changed(save(tiny_sam(), tmp_path / "model"), part, **{key: "evil/kernel"}, **more)
    asked.clear()
    config = open_prompter(str(folder), offline=True).net.config  # type: ignore[attr-defined]
    assert asked and not any("evil" in str(name) for name in asked)
    assert "evil" not in json.dumps(config.to_dict())


@pytest.mark.parametrize(
    ("build", "part", "words", "said"),
    [
        (tiny_sam, "", {"vision_config": [1]}, "vision_config is no JSON object"),
        (tiny_sam, "prompt_encoder_config", {"image_size": 128}, "pictures of 64 pixels and prompts of 128"),
        (tiny_sam, "prompt_encoder_config", {"image_size": [64]}, "builds no model"),
        (tiny_sam, "vision_config", {"patch_size": 16}, "grid of 4 and prompts on one of 8"),
        (tiny_sam2, "prompt_encoder_config", {"image_size": 128}, "pictures of 64 pixels and prompts of 128"),
        (tiny_sam2, "vision_config", {"backbone_config": {"model_type": "timm_backbone"}}, "'timm_backbone'"),
    ],
)
def test_a_config_whose_parts_do_not_fit_says_what_is_wrong(tmp_path, build, part, words, said):
    folder = _changed(save(build(), tmp_path / "model"), part, **words)
    with pytest.raises(BadWeights, match=said):
        open_prompter(str(folder))


SIGHT = {"side": 64, "fitted": True, "mean": [0, 0, 0], "std": [1, 1, 1]}


@pytest.mark.parametrize(
    "net",
    [
        {},
        {"arm": "pyramid"},
        {"arm": "pyramid", "arch": "medgraft:small", "options": [1], "mean": 0, "std": 1},
        {"arm": "sam", "config": [1], "sight": SIGHT},
        {"arm": "sam", "config": {"model_type": "sam"}, "sight": {**SIGHT, "mean": 3}},
        {"arm": "sam", "config": {"model_type": "sam"}, "sight": SIGHT, "tiny": {"depth": "x"}},
    ],
)
def test_a_run_whose_card_is_damaged_is_refused(tmp_path, net):
    path = tmp_path / "model.safetensors"
    save_model(path, state={"a": torch.zeros(1)}, card={"task": "outline", "net": net})
    with pytest.raises(BadWeights, match="card") as caught:
        open_prompter(str(tmp_path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["timm:resnet18", "nowhere", "sam"])
def test_without_a_model_it_says_how_to_name_one(name):
    with pytest.raises(UnknownName, match="--backbone hf-hub:facebook/sam-vit-base"):
        open_prompter(name)


def test_without_the_library_it_says_what_to_install(tmp_path, monkeypatch):
    folder = save(tiny_sam(), tmp_path / "model")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"medgraft\[sam\]"):
        open_prompter(str(folder))
