"""Checkpoints in the layout of their authors: segment-anything (SAM, MedSAM) and MobileSAM, by the names of weights.

The files say nothing but their weights, so the architecture is read from shapes.

Source: github.com/facebookresearch/segment-anything; Zhang et al., "Faster Segment Anything" (MobileSAM), arXiv
2306.14289; Wu et al., "TinyViT", ECCV 2022.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from medgraft.errors import BadWeights

_HEADS = 8  # of the decoder, in every published model; no shape tells it
_PATCH = 16
_WINDOWS, _HEAD_WIDTH = (7, 7, 14, 7), 32  # of TinyViT
_NECK = (
    (r"neck\.0\.", "neck.conv1."),
    (r"neck\.1\.", "neck.layer_norm1."),
    (r"neck\.2\.", "neck.conv2."),
    (r"neck\.3\.", "neck.layer_norm2."),
)
_ENCODER = (
    (r"^image_encoder\.", "vision_encoder."),
    (r"patch_embed\.proj\.", "patch_embed.projection."),
    (r"\.blocks\.(\d+)\.norm", r".layers.\1.layer_norm"),
    (r"\.blocks\.", ".layers."),
    *_NECK,
)
_PROMPTS = (
    (r"\.pe_layer\.positional_encoding_gaussian_matrix", ".shared_embedding.positional_embedding"),
    (r"\.point_embeddings\.", ".point_embed."),
    (r"\.mask_downscaling\.0\.", ".mask_embed.conv1."),
    (r"\.mask_downscaling\.1\.", ".mask_embed.layer_norm1."),
    (r"\.mask_downscaling\.3\.", ".mask_embed.conv2."),
    (r"\.mask_downscaling\.4\.", ".mask_embed.layer_norm2."),
    (r"\.mask_downscaling\.6\.", ".mask_embed.conv3."),
)
_DECODER = (
    (r"\.norm_final_attn\.", ".layer_norm_final_attn."),
    (r"(\.layers\.\d+)\.norm(\d)\.", r"\1.layer_norm\2."),
    (r"\.output_upscaling\.0\.", ".upscale_conv1."),
    (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
    (r"\.output_upscaling\.3\.", ".upscale_conv2."),
    (r"(hypernetworks_mlps\.\d+|prediction_head)\.layers\.0\.", r"\1.proj_in."),
    (r"(hypernetworks_mlps\.\d+|prediction_head)\.layers\.1\.", r"\1.layers.0."),
    (r"(hypernetworks_mlps\.\d+|prediction_head)\.layers\.2\.", r"\1.proj_out."),
)
_TINY = (
    (r"^image_encoder\.", ""),
    (r"patch_embed\.seq\.0\.", "patch_embed.conv1."),
    (r"patch_embed\.seq\.2\.", "patch_embed.conv2."),
    (r"\.c\.weight$", ".conv.weight"),
)


def is_original(state: Mapping[str, torch.Tensor]) -> bool:
    """Tell whether weights have the names of segment-anything or MobileSAM."""
    return any(name.startswith("image_encoder.") for name in state)


def translated(
    state: Mapping[str, torch.Tensor], *, where: object
) -> tuple[dict[str, Any], dict[str, torch.Tensor], nn.Module | None]:
    """Get weights under the names of transformers: (config.json, weights, encoder where transformers has none).

    Raises:
        BadWeights: they are of no model that is known.
    """
    try:
        config = _config(state)
        encoder = _tiny_encoder(state) if "image_encoder.patch_embed.seq.0.c.weight" in state else None
    except (KeyError, IndexError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise BadWeights(
            f"its weights fit no SAM, MedSAM or MobileSAM that is known ({error})",
            where=where,
            do="Give a checkpoint of segment-anything or MobileSAM, or a folder of transformers' layout.",
        ) from error
    renamed: dict[str, torch.Tensor] = {}
    for name, value in state.items():
        room, _, _ = name.partition(".")
        if room == "image_encoder":
            key = f"vision_encoder.{_tiny_name(name)}" if encoder is not None else _renamed(name, _ENCODER)
        else:
            key = _renamed(name, _PROMPTS if room == "prompt_encoder" else _DECODER)
        renamed[key] = value
    return config, renamed, encoder


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, word in rules:
        name = re.sub(pattern, word, name)
    return name


def _config(state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """What config.json would say, from shapes."""
    width = state["prompt_encoder.no_mask_embed.weight"].shape[1]
    features = state["prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"].shape[1]
    mask_width = state["prompt_encoder.mask_downscaling.3.weight"].shape[0]
    tokens = state["mask_decoder.mask_tokens.weight"].shape[0]
    layers = _count(state, r"mask_decoder\.transformer\.layers\.(\d+)\.")
    attention = "mask_decoder.transformer.layers.0."
    inner = state[f"{attention}cross_attn_token_to_image.q_proj.weight"].shape[0]
    vision, side, patch = _vision(state) if "image_encoder.pos_embed" in state else _tiny_vision(width)
    return {
        "model_type": "sam",
        "vision_config": {**vision, "output_channels": width, "num_pos_feats": features},
        "prompt_encoder_config": {
            "hidden_size": width,
            "image_size": side,
            "patch_size": patch,
            "mask_input_channels": mask_width,
            "num_point_embeddings": _count(state, r"prompt_encoder\.point_embeddings\.(\d+)\."),
        },
        "mask_decoder_config": {
            "hidden_size": width,
            "num_hidden_layers": layers,
            "num_attention_heads": _HEADS,
            "attention_downsample_rate": width // inner,
            "mlp_dim": state[f"{attention}mlp.lin1.weight"].shape[0],
            "num_multimask_outputs": tokens - 1,
            "iou_head_hidden_dim": state["mask_decoder.iou_prediction_head.layers.0.weight"].shape[0],
            "iou_head_depth": _count(state, r"mask_decoder\.iou_prediction_head\.layers\.(\d+)\."),
        },
    }


def _count(state: Mapping[str, torch.Tensor], pattern: str) -> int:
    return 1 + max(int(found[1]) for name in state if (found := re.match(pattern, name)))


def _vision(state: Mapping[str, torch.Tensor]) -> tuple[dict[str, Any], int, int]:
    """The vision transformer of segment-anything."""
    start = "image_encoder."
    _, grid, _, hidden = state[f"{start}pos_embed"].shape
    patch = state[f"{start}patch_embed.proj.weight"].shape[-1]
    depth = _count(state, r"image_encoder\.blocks\.(\d+)\.")
    lengths = [state[f"{start}blocks.{k}.attn.rel_pos_h"].shape[0] for k in range(depth)]
    windowed = [length for length in lengths if length != 2 * grid - 1]
    return (
        {
            "hidden_size": hidden,
            "num_hidden_layers": depth,
            "num_attention_heads": hidden // state[f"{start}blocks.0.attn.rel_pos_h"].shape[1],
            "image_size": grid * patch,
            "patch_size": patch,
            "mlp_dim": state[f"{start}blocks.0.mlp.lin1.weight"].shape[0],
            "qkv_bias": f"{start}blocks.0.attn.qkv.bias" in state,
            "window_size": (windowed[0] + 1) // 2 if windowed else grid,
            "global_attn_indexes": [k for k, length in enumerate(lengths) if length == 2 * grid - 1],
        },
        grid * patch,
        patch,
    )


def _tiny_vision(width: int) -> tuple[dict[str, Any], int, int]:
    """A transformer as small as can be built: TinyViT takes its place."""
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "global_attn_indexes": [0]}
    return {**small, "image_size": 1024, "patch_size": _PATCH, "mlp_dim": width}, 1024, _PATCH


class TinyEncoder(nn.Module):
    """The encoder of MobileSAM: a TinyViT that ends at a sixteenth of the picture, and the neck of SAM.

    Args:
        trunk: a TinyViT of timm, without its head.
        neck: `(N, C, h, w)` -> `(N, width, h, w)`.
    """

    def __init__(self, trunk: Any, neck: nn.Module) -> None:
        super().__init__()
        self.patch_embed, self.stages, self.neck = trunk.patch_embed, trunk.stages, neck
        self.form: dict[str, Any] = {}

    def forward(self, pixels: torch.Tensor, **words: Any) -> tuple[torch.Tensor]:
        del words
        return (self.neck(self.stages(self.patch_embed(pixels))),)


class _Neck(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        from timm.layers.norm import LayerNorm2d

        self.conv1, self.layer_norm1 = nn.Conv2d(channels, width, 1, bias=False), LayerNorm2d(width, eps=1e-6)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.layer_norm2 = LayerNorm2d(width, eps=1e-6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer_norm2(self.conv2(self.layer_norm1(self.conv1(x))))


def _tiny_encoder(state: Mapping[str, torch.Tensor]) -> TinyEncoder:
    start = "image_encoder."
    first = state[f"{start}layers.0.blocks.0.conv1.c.weight"]
    return tiny_encoder(
        depths=[_count(state, rf"image_encoder\.layers\.{k}\.blocks\.(\d+)\.") for k in range(4)],
        widths=[first.shape[1], *(state[f"{start}layers.{k}.downsample.conv3.c.weight"].shape[0] for k in range(3))],
        heads=[1, *(state[f"{start}layers.{k}.blocks.0.attn.attention_biases"].shape[0] for k in (1, 2, 3))],
        expand=first.shape[0] / first.shape[1],
        out=state[f"{start}neck.0.weight"].shape[0],
    )


def tiny_encoder(
    *, depths: Sequence[int], widths: Sequence[int], heads: Sequence[int], expand: float, out: int
) -> TinyEncoder:
    """Build the encoder of MobileSAM from random numbers; its `form` holds these arguments.

    Args:
        depths: blocks of each stage.
        widths: channels of each stage.
        heads: of attention, of each stage.
        expand: how many times wider the convolutions are inside.
        out: channels of what it gives.
    """
    from timm.models.tiny_vit import TinyVit

    trunk = TinyVit(
        num_classes=0,
        embed_dims=tuple(widths),
        depths=tuple(depths),
        num_heads=tuple(heads),
        window_sizes=_WINDOWS,
        mbconv_expand_ratio=expand,
        drop_path_rate=0.0,
    )
    # The last stage of MobileSAM keeps its resolution, so that the decoder of SAM finds a sixteenth.
    last: Any = trunk.stages[3]
    last.downsample.conv2.conv.stride = (1, 1)
    encoder = TinyEncoder(trunk, _Neck(widths[-1], out))
    encoder.form = {"depths": list(depths), "widths": list(widths), "heads": list(heads), "expand": expand, "out": out}
    return encoder


def _tiny_name(name: str) -> str:
    """TinyViT's names in timm: what leads from one stage to the next belongs to the next one there."""
    name = re.sub(r"\.layers\.(\d+)\.downsample\.", lambda m: f".stages.{int(m[1]) + 1}.downsample.", name)
    return _renamed(re.sub(r"\.layers\.(\d+)\.blocks\.", r".stages.\1.blocks.", name), (*_TINY, *_NECK))
