"""Writes the files of this folder: checkpoints of tiny networks as other libraries write them, with
random images and the logits of those networks.

Python 3.11; torch==2.13.0 torchvision timm==1.0.31 transformers==5.23.0 safetensors==0.8.0
Run it in this folder: python make.py
"""

import argparse
import json
import os
import tempfile
from collections import OrderedDict
from pathlib import Path

import timm
import torch
import transformers
from safetensors.torch import load_file, save_file
from timm.layers import resample_abs_pos_embed
from timm.models import adapt_input_conv
from timm.models.deit import VisionTransformerDistilled
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from transformers import (
    DeiTConfig,
    DeiTForImageClassification,
    DeiTForImageClassificationWithTeacher,
    DeiTModel,
    SwinConfig,
    SwinForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

FOLDER = Path(__file__).parent
IMAGE, PATCH, WIDTH, DEPTH, HEADS, CLASSES, RATIO = 32, 8, 24, 2, 3, 5, 2
SIZES = dict(img_size=IMAGE, patch_size=PATCH, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS,
             num_classes=CLASSES, mlp_ratio=RATIO)
HF_SIZES = dict(image_size=IMAGE, patch_size=PATCH, hidden_size=WIDTH, num_hidden_layers=DEPTH,
                num_attention_heads=HEADS, num_labels=CLASSES, intermediate_size=RATIO * WIDTH)


def randomise(model):
    """Draws all parameters at random: initial zeros and ones would hide errors."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            offset = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            parameter.copy_(offset + 0.2 * torch.randn_like(parameter))
    return model.eval()


def expect(name, model, image=IMAGE):
    """Writes random images and the model's logits."""
    images = torch.randn(2, 3, image, image)
    with torch.no_grad():
        logits = model(images)
    logits = getattr(logits, "logits", logits)
    save_file({"images": images, "logits": logits.contiguous()}, FOLDER / f"{name}.expected.safetensors")


def saved_by_transformers(model):
    """Returns the state dict under the names that save_pretrained writes."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return load_file(os.path.join(folder, "model.safetensors"))


def timm_files():
    plain = randomise(VisionTransformer(**SIZES))
    save_file(plain.state_dict(), FOLDER / "timm_plain.safetensors")
    expect("timm_plain", plain)
    distilled = randomise(VisionTransformerDistilled(**SIZES))
    save_file(distilled.state_dict(), FOLDER / "timm_distilled.safetensors")
    expect("timm_distilled", distilled)
    adapted = {}
    for kind, model, prefix in [("plain", plain, 1), ("distilled", distilled, 2)]:
        for image in [24, 48, 56]:
            grid = [image // PATCH] * 2
            table = resample_abs_pos_embed(model.pos_embed.detach(), grid, num_prefix_tokens=prefix)
            adapted[f"{kind}.positions.{image}"] = table.contiguous()
    for channels in [1, 2, 4, 8]:
        weight = adapt_input_conv(channels, plain.patch_embed.proj.weight.detach())
        adapted[f"plain.channels.{channels}"] = weight.contiguous()
    save_file(adapted, FOLDER / "adapted.safetensors")


def transformers_files():
    for name, model in [
        ("hf_vit", ViTForImageClassification(ViTConfig(**HF_SIZES))),
        ("hf_deit", DeiTForImageClassification(DeiTConfig(**HF_SIZES))),
        ("hf_deit_teacher", DeiTForImageClassificationWithTeacher(DeiTConfig(**HF_SIZES))),
    ]:
        save_file(saved_by_transformers(randomise(model)), FOLDER / f"{name}.safetensors")
        expect(name, model)


def torch_files():
    # As DeiT's main.py saves it, with the state of an optimiser after one step.
    model = randomise(VisionTransformer(**SIZES))
    optimizer = torch.optim.AdamW(model.blocks[-1].parameters())
    model(torch.randn(1, 3, IMAGE, IMAGE)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    torch.save({
        "model": model.state_dict(), "optimizer": optimizer.state_dict(),
        "lr_scheduler": scheduler.state_dict(), "epoch": 3, "scaler": {},
        "args": argparse.Namespace(model="tiny", lr=5e-4, output_dir=Path("out"), seed=2**70,
                                   aa=None, repeated_aug=True, betas=(0.9, 0.999)),
    }, FOLDER / "deit_training.pth")
    expect("deit_training", model)

    # A bare state dict in half precision: a transposed weight, and tensors that share a storage.
    model = randomise(VisionTransformer(**SIZES)).half()
    state = model.state_dict()
    state["blocks.0.mlp.fc1.weight"] = state["blocks.0.mlp.fc1.weight"].t().contiguous().t()
    shared = torch.stack([state["norm.weight"], state["norm.bias"]], dim=1)
    state["norm.weight"], state["norm.bias"] = shared[:, 0], shared[:, 1]
    torch.save(state, FOLDER / "half_views.pth")
    expect("half_views", model.float())

    # Parameters in bfloat16 under "state_dict", with pickle protocol 4.
    model = randomise(VisionTransformer(**SIZES)).bfloat16()
    torch.save({"epoch": 1, "state_dict": OrderedDict(model.named_parameters())},
               FOLDER / "bfloat16_parameters.pth", pickle_protocol=4)
    expect("bfloat16_parameters", model.float())


def swin_files():
    depths, heads, image, window = [2, 1], [2, 4], 16, 4
    model = randomise(SwinTransformer(
        img_size=image, patch_size=2, num_classes=CLASSES, embed_dim=12, depths=depths,
        num_heads=heads, window_size=window, mlp_ratio=RATIO))
    state = model.state_dict()
    save_file(state, FOLDER / "timm_swin.safetensors")
    expect("timm_swin", model, image)
    # As the original writes it: patch merging at the end of a stage, another name of the head, and
    # the constants of its windows.
    original = {}
    for name, tensor in state.items():
        name = name.replace("layers.1.downsample", "layers.0.downsample")
        original[name.replace("head.fc.", "head.")] = tensor
    for name in list(original):
        if name.endswith("relative_position_bias_table"):
            block = name.removesuffix("relative_position_bias_table")
            original[block + "relative_position_index"] = torch.zeros(16, 16, dtype=torch.int64)
    original["layers.0.blocks.1.attn_mask"] = torch.zeros(4, 16, 16)
    torch.save({"model": original}, FOLDER / "original_swin.pth")
    save_file(load_file(FOLDER / "timm_swin.expected.safetensors"),
              FOLDER / "original_swin.expected.safetensors")
    model = randomise(SwinForImageClassification(SwinConfig(
        image_size=image, patch_size=2, embed_dim=12, depths=depths, num_heads=heads,
        window_size=window, mlp_ratio=RATIO, num_labels=CLASSES)))
    save_file(saved_by_transformers(model), FOLDER / "hf_swin.safetensors")
    expect("hf_swin", model, image)


class Foreign:
    """An object whose unpickling runs a command."""

    def __reduce__(self):
        return os.system, ("touch once-for-both-ran-foreign-code",)


def refused_files():
    weight = torch.ones(2)
    torch.save({"model": {"norm.weight": weight, "norm.bias": Foreign()}}, FOLDER / "foreign_inside.pth")
    torch.save({"model": {"norm.weight": weight}, "hook": Foreign()}, FOLDER / "foreign_beside.pth")
    torch.save({"model": torch.nn.LayerNorm(2)}, FOLDER / "whole_module.pth")
    torch.save({"norm.weight": weight}, FOLDER / "legacy.pth", _use_new_zipfile_serialization=False)


def key_files():
    """Writes names and shapes of DeiT-S in every naming convention."""
    small = dict(hidden_size=384, num_attention_heads=6, intermediate_size=1536, num_labels=1000)
    keys = {}

    def note(name, state):
        keys[name] = {key: list(tensor.shape) for key, tensor in state.items()}

    for name in ["deit_small_patch16_224", "deit_small_distilled_patch16_224"]:
        note(f"timm {name}", timm.create_model(name).state_dict())
    for name, model in [
        ("ViTForImageClassification", ViTForImageClassification(ViTConfig(**small))),
        ("ViTModel", ViTModel(ViTConfig(**small))),
        ("DeiTForImageClassification", DeiTForImageClassification(DeiTConfig(**small))),
        ("DeiTForImageClassificationWithTeacher",
         DeiTForImageClassificationWithTeacher(DeiTConfig(**small))),
        ("DeiTModel", DeiTModel(DeiTConfig(**small), use_mask_token=True)),
    ]:
        note(f"transformers saved {name}", saved_by_transformers(model))
        # The names inside the classes of version 5.
        if name in ["ViTForImageClassification", "DeiTForImageClassificationWithTeacher"]:
            note(f"transformers class {name}", model.state_dict())
    # One tensor a line.
    lines = ",\n".join(
        f' "{name}": {{\n' + ",\n".join(f'  "{k}": {json.dumps(s)}' for k, s in sorted(state.items())) + "\n }"
        for name, state in keys.items())
    (FOLDER / "deit_small_keys.json").write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    print(torch.__version__, timm.__version__, transformers.__version__)
    torch.set_num_threads(1)
    for make in [timm_files, transformers_files, torch_files, swin_files, refused_files, key_files]:
        torch.manual_seed(0)
        make()
