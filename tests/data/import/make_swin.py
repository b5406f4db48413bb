"""Writes the files of the folder swin: checkpoints of tiny Swins whose windows or patch merging do not
divide their grids, with random images, the logits of timm or transformers, and MACs.

Python 3.11; torch==2.13.0 timm==1.0.31 transformers==5.24.0 safetensors==0.8.0
Run it in this folder: python make_swin.py
"""

import json

import torch
from safetensors.torch import save_file
from timm.models.swin_transformer import SwinTransformer
from torch.utils.flop_counter import FlopCounterMode
from transformers import SwinConfig, SwinForImageClassification

from make import CLASSES, FOLDER, randomise, saved_by_transformers

# Image, patch, width, depths, heads and window of each case, and what is special in it.
CASES = {
    # Grids of 9, 5 and 3: padded by 3, by 3, and a single window; both mergings padded.
    "odd": (18, 2, 8, [2, 2, 2], [2, 4, 8], 4),
    # Grids of 10 and 5: a shifted window that is larger than half the grid, then one window of all tokens.
    "large_window": (20, 2, 8, [2, 2], [2, 4], 7),
    # 30 tokens with windows of 7, merged to 15.
    "thirty": (30, 1, 4, [2, 2], [1, 2], 7),
    # A grid as large as the window has no shift; then 7 tokens are merged to 4, 2 and 1.
    "single": (14, 2, 4, [2, 2, 1, 2], [1, 2, 2, 2], 7),
    # Windows of one token: the shift is 0.
    "one_token": (6, 2, 8, [2, 2], [2, 4], 1),
}


def inputs(image):
    return torch.randn(2, 3, image, image)


def macs(model, image):
    """Half of the operations of an image, with attention written as two matrix products."""
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(image[:1])
    return counter.get_total_flops() // 2


def write(name, model, state, images):
    with torch.no_grad():
        logits = model(images)
    logits = getattr(logits, "logits", logits).contiguous()
    save_file({**state, "golden.images": images, "golden.logits": logits},
              FOLDER / "swin" / f"{name}.safetensors")


def timm_cases():
    for name, (image, patch, width, depths, heads, window) in CASES.items():
        model = randomise(SwinTransformer(
            img_size=image, patch_size=patch, num_classes=CLASSES, embed_dim=width, depths=depths,
            num_heads=heads, window_size=window, mlp_ratio=2))
        images = inputs(image)
        write(name, model, model.state_dict(), images)
        yield dict(name=name, image=image, patch=patch, width=width, depths=depths, heads=heads,
                   window=window, macs=macs(model, images),
                   params=sum(parameter.numel() for parameter in model.parameters()))


def transformers_case():
    """Pads before the shift: equal to timm in stages of one block. Grids of 9 and 5 tokens."""
    model = randomise(SwinForImageClassification(SwinConfig(
        image_size=18, patch_size=2, embed_dim=8, depths=[1, 1], num_heads=[2, 4], window_size=4,
        mlp_ratio=2, num_labels=CLASSES)))
    write("transformers", model, saved_by_transformers(model), inputs(18))


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    (FOLDER / "swin").mkdir(exist_ok=True)
    lines = ",\n".join(" " + json.dumps(case) for case in timm_cases())
    (FOLDER / "swin" / "cases.json").write_text(f"[\n{lines}\n]\n")
    transformers_case()
