"""Checkpoints with the names and shapes of segment-anything and MobileSAM, small, and with numbers of a formula."""

from __future__ import annotations

import math
import zlib

import torch

Shapes = dict[str, tuple[int, ...]]


def checkpoint(kind: str) -> dict[str, torch.Tensor]:
    """Get the weights of a small model in the layout of its authors: "vit" (SAM) or "tiny" (MobileSAM)."""
    shapes = {**(_vit() if kind == "vit" else _tiny()), **_decoder(32)}
    return {name: _numbers(name, shape) for name, shape in shapes.items()}


def _numbers(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Numbers that look random and are the same everywhere; variances are positive, scales near 1."""
    count = math.prod(shape)
    if name.endswith("num_batches_tracked"):
        return torch.tensor(1)
    phase = zlib.crc32(name.encode()) % 1000
    waves = torch.sin(torch.arange(count, dtype=torch.float64) * 12.9898 + phase) * 43758.5453
    values = (waves - waves.floor() - 0.5).reshape(shape)
    if name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
        return (1 + 0.5 * values).float()
    fan = math.prod(shape[1:]) if len(shape) > 1 else 4
    if "gaussian" in name or "embed" in name or "token" in name:
        return (2 * values).float()
    return (values * 3 / math.sqrt(fan)).float()


def _linear(name: str, out: int, into: int) -> Shapes:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _vit(width: int = 24, depth: int = 3, grid: int = 8, window: int = 3) -> Shapes:
    """The encoder of segment-anything at 128 pixels; the middle block sees the whole grid."""
    found: Shapes = {"image_encoder.pos_embed": (1, grid, grid, width)}
    found["image_encoder.patch_embed.proj.weight"] = (width, 3, 16, 16)
    found["image_encoder.patch_embed.proj.bias"] = (width,)
    for k in range(depth):
        name = f"image_encoder.blocks.{k}"
        reach = 2 * (grid if k == 1 else window) - 1
        found |= _norm(f"{name}.norm1", width) | _norm(f"{name}.norm2", width)
        found |= {f"{name}.attn.rel_pos_{axis}": (reach, width // 2) for axis in "hw"}
        found |= _linear(f"{name}.attn.qkv", 3 * width, width) | _linear(f"{name}.attn.proj", width, width)
        found |= _linear(f"{name}.mlp.lin1", 2 * width, width) | _linear(f"{name}.mlp.lin2", width, 2 * width)
    return found | _neck(width)


def _neck(width: int, out: int = 32) -> Shapes:
    found: Shapes = {"image_encoder.neck.0.weight": (out, width, 1, 1), "image_encoder.neck.2.weight": (out, out, 3, 3)}
    return found | _norm("image_encoder.neck.1", out) | _norm("image_encoder.neck.3", out)


def _tiny(widths: tuple[int, ...] = (4, 4, 8, 320), heads: tuple[int, ...] = (1, 1, 2, 10)) -> Shapes:
    """The encoder of MobileSAM; its last stage keeps its resolution where it is 320 wide."""

    def conv(name: str, out: int, into: int, kernel: int = 1) -> Shapes:
        rest = {f"{name}.bn.{word}": (out,) for word in ("weight", "bias", "running_mean", "running_var")}
        return {f"{name}.c.weight": (out, into, kernel, kernel), **rest, f"{name}.bn.num_batches_tracked": ()}

    start, first = "image_encoder", widths[0]
    found = conv(f"{start}.patch_embed.seq.0", first // 2, 3, 3) | conv(
        f"{start}.patch_embed.seq.2", first, first // 2, 3
    )
    name = f"{start}.layers.0.blocks.0"
    found |= conv(f"{name}.conv1", 4 * first, first) | conv(f"{name}.conv2", 4 * first, 1, 3)
    found |= conv(f"{name}.conv3", first, 4 * first)
    for k in range(3):
        name, out = f"{start}.layers.{k}.downsample", widths[k + 1]
        found |= (
            conv(f"{name}.conv1", out, widths[k]) | conv(f"{name}.conv2", out, 1, 3) | conv(f"{name}.conv3", out, out)
        )
    for k, window in ((1, 7), (2, 14), (3, 7)):
        name, width = f"{start}.layers.{k}.blocks.0", widths[k]
        found |= {f"{name}.attn.attention_biases": (heads[k], window**2)}
        found |= _norm(f"{name}.attn.norm", width) | _linear(f"{name}.attn.qkv", 3 * width, width)
        found |= _linear(f"{name}.attn.proj", width, width) | _norm(f"{name}.mlp.norm", width)
        found |= _linear(f"{name}.mlp.fc1", 4 * width, width) | _linear(f"{name}.mlp.fc2", width, 4 * width)
        found |= conv(f"{name}.local_conv", width, 1, 3)
    # What is there for classes and not used.
    found |= _norm(f"{start}.norm_head", widths[-1]) | _linear(f"{start}.head", 10, widths[-1])
    return found | _neck(widths[-1])


def _decoder(width: int) -> Shapes:
    prompts = "prompt_encoder"
    found: Shapes = {f"{prompts}.pe_layer.positional_encoding_gaussian_matrix": (2, width // 2)}
    names = [*(f"point_embeddings.{k}" for k in range(4)), "not_a_point_embed", "no_mask_embed"]
    found |= {f"{prompts}.{name}.weight": (1, width) for name in names}
    for place, shape in ((0, (2, 1, 2, 2)), (3, (8, 2, 2, 2)), (6, (width, 8, 1, 1))):
        found |= {
            f"{prompts}.mask_downscaling.{place}.weight": shape,
            f"{prompts}.mask_downscaling.{place}.bias": shape[:1],
        }
    found |= _norm(f"{prompts}.mask_downscaling.1", 2) | _norm(f"{prompts}.mask_downscaling.4", 8)
    found |= {"mask_decoder.iou_token.weight": (1, width), "mask_decoder.mask_tokens.weight": (4, width)}
    net = "mask_decoder.transformer"

    def attention(name: str, inner: int) -> Shapes:
        into = [_linear(f"{name}.{word}_proj", inner, width) for word in "qkv"]
        return into[0] | into[1] | into[2] | _linear(f"{name}.out_proj", width, inner)

    for k in range(2):
        name = f"{net}.layers.{k}"
        found |= attention(f"{name}.self_attn", width)
        found |= attention(f"{name}.cross_attn_token_to_image", width // 2)
        found |= attention(f"{name}.cross_attn_image_to_token", width // 2)
        for number in range(1, 5):
            found |= _norm(f"{name}.norm{number}", width)
        found |= _linear(f"{name}.mlp.lin1", 2 * width, width) | _linear(f"{name}.mlp.lin2", width, 2 * width)
    found |= attention(f"{net}.final_attn_token_to_image", width // 2) | _norm(f"{net}.norm_final_attn", width)
    for place, out, into in ((0, width // 4, width), (3, width // 8, width // 4)):
        found |= {f"mask_decoder.output_upscaling.{place}.weight": (into, out, 2, 2)}
        found |= {f"mask_decoder.output_upscaling.{place}.bias": (out,)}
    found |= _norm("mask_decoder.output_upscaling.1", width // 4)
    for k in range(4):
        found |= _mlp(f"mask_decoder.output_hypernetworks_mlps.{k}", width, width, width // 8)
    return found | _mlp("mask_decoder.iou_prediction_head", width, 16, 4)


def _mlp(name: str, into: int, inner: int, out: int) -> Shapes:
    first, second = _linear(f"{name}.layers.0", inner, into), _linear(f"{name}.layers.1", inner, inner)
    return first | second | _linear(f"{name}.layers.2", out, inner)
