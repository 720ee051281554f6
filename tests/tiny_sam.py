"""Random SAM and SAM 2 of a few thousand weights, saved in the hub's layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

transformers = pytest.importorskip("transformers")
SIDE = 64
_DECODER = {"hidden_size": 32, "mlp_dim": 32, "iou_head_hidden_dim": 32}


def tiny_sam(seed: int = 0, *, mlp: int = 48) -> Any:
    """Get a random SAM that sees 64 x 64 pixels; `mlp` is how wide its layers are inside."""
    torch.manual_seed(seed)
    prompts = {"hidden_size": 32, "image_size": SIDE, "patch_size": 8, "mask_input_channels": 8}
    vision = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": SIDE, "patch_size": 8}
    vision |= {"output_channels": 32, "num_pos_feats": 16, "window_size": 3, "global_attn_indexes": [1], "mlp_dim": mlp}
    return _stirred(
        transformers.SamModel(
            transformers.SamConfig(
                vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=dict(_DECODER)
            )
        )
    )


def tiny_sam2(seed: int = 0) -> Any:
    """Get a random SAM 2 that sees 64 x 64 pixels."""
    torch.manual_seed(seed)
    trunk = {"hidden_size": 8, "image_size": [SIDE, SIDE], "blocks_per_stage": [1, 1, 2, 1]}
    trunk |= {"embed_dim_per_stage": [8, 16, 24, 32], "num_attention_heads_per_stage": [1, 1, 1, 1]}
    trunk |= {"window_size_per_stage": [4, 2, 2, 2], "global_attention_blocks": [3], "model_type": _HIERA}
    vision = {"backbone_config": trunk, "backbone_channel_list": [32, 24, 16, 8], "fpn_hidden_size": 32}
    vision |= {"backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]], "model_type": "sam2_vision_model"}
    prompts = {"hidden_size": 32, "image_size": SIDE, "patch_size": 16, "mask_input_channels": 8}
    return _stirred(
        transformers.Sam2Model(
            transformers.Sam2Config(
                vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=dict(_DECODER)
            )
        )
    )


_HIERA = "sam2_hiera_det_model"


def tiny_sam2_video(image_model: Any) -> Any:
    """Get a SAM 2 with a memory for videos, as it is published, around one of pictures."""
    config = image_model.config.to_dict()
    parts = {
        name: {key: value for key, value in config[name].items() if key != "model_type"}
        for name in ("prompt_encoder_config", "mask_decoder_config")
    }
    small = ("memory_attention_hidden_size", "memory_encoder_hidden_size", "memory_attention_feed_forward_hidden_size")
    small += ("memory_fuser_embed_dim", "memory_fuser_intermediate_dim")
    whole = transformers.Sam2VideoConfig(
        vision_config=config["vision_config"],
        image_size=SIDE,
        memory_encoder_output_channels=16,
        **parts,
        **dict.fromkeys(small, 32),
    )
    model = transformers.Sam2VideoModel(whole)
    model.load_state_dict({**model.state_dict(), **image_model.state_dict()})
    return model


def processor_of(model: Any) -> Any:
    """Get the processor of transformers that belongs to a model."""
    if isinstance(model, transformers.SamModel):
        square = {"height": SIDE, "width": SIDE}
        images = transformers.SamImageProcessor(size={"longest_edge": SIDE}, pad_size=square)
        return transformers.SamProcessor(images)
    images = transformers.Sam2ImageProcessor(size={"height": SIDE, "width": SIDE})
    return transformers.Sam2Processor(images, target_size=SIDE)


def save(model: Any, folder: Path) -> Path:
    """Write a model and its processor as the hub has them."""
    model.save_pretrained(folder)
    processor_of(model).save_pretrained(folder)
    return folder


def _stirred(model: Any) -> Any:
    """Numbers that begin at zero, as positions do, are drawn too: else they would not be tested."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()
