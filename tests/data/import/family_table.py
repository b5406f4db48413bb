"""Writes a folder for every ViT that timm registers: a tiny network of its options with random weights,
the config.json that timm puts beside weights, random images, and the logits.

    python family_table.py FOLDER
    OFB_FAMILY=FOLDER cargo test --test import -- --ignored --nocapture family_table

sizes.json has the network's own sizes; those of the names that docs/timm.md calls exact are in timm_heads.json.

The test prints for each name whether the import is exact, or why it is refused.
Python 3.11; torch==2.13.0 torchvision timm==1.0.31 numpy
"""

import json
import os
import sys
from pathlib import Path

# scripts/python_env.py replaces CUDA libraries by empty ones; lazy binding resolves their functions only when they
# are called.
sys.setdlopenflags(os.RTLD_LAZY)

import timm
import torch

MODULES = ["vision_transformer", "deit", "eva", "beit", "vision_transformer_relpos"]
# Their names are refused; no tiny network can be made of them.
UNMADE = "_sapiens2"
SIZES = dict(img_size=12, patch_size=4, embed_dim=24, depth=2, num_heads=3, num_classes=5)


def build(name):
    """The network at tiny sizes, or the reason why it has none."""
    try:
        model = timm.create_model(name, **SIZES).eval()
    except (TypeError, AssertionError, RuntimeError, ValueError) as error:
        return None, str(error).splitlines()[0]
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            is_scale = "norm" in key and key.endswith("weight")
            parameter.copy_((1.0 if is_scale else 0.0) + 0.2 * torch.randn_like(parameter))
    return model, None


def sizes(name):
    """What the number of heads is tested with, of the network at its own sizes."""
    with torch.device("meta"):
        model = timm.create_model(name)
    block = model.blocks[0]
    # Blocks whose branches are parallel have no attention of this name; they are refused.
    heads = getattr(getattr(block, "attn", None), "num_heads", None)
    return dict(embed_dim=model.embed_dim, depth=len(model.blocks), num_heads=heads,
                rope=getattr(model, "rope", None) is not None,
                layer_scale=hasattr(getattr(block, "ls1", None), "gamma") or getattr(block, "gamma_1", None) is not None)


def save_file(tensors, path):
    """Writes a safetensors file."""
    header, parts, at = {}, [], 0
    for key, tensor in tensors.items():
        kind, parts = {torch.float32: "F32", torch.int64: "I64"}[tensor.dtype], parts + [tensor.numpy().tobytes()]
        header[key] = dict(dtype=kind, shape=list(tensor.shape), data_offsets=[at, at + len(parts[-1])])
        at += len(parts[-1])
    header = json.dumps(header).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"".join(parts))


def main(folder):
    torch.manual_seed(0)
    unmade = []
    for module in MODULES:
        for name in timm.list_models(module=module):
            model, reason = build(name)
            if model is None:
                print("%s: no tiny network: %s" % (name, reason))
                unmade += [] if name.endswith(UNMADE) else [name]
                continue
            own = folder / name
            own.mkdir(parents=True, exist_ok=True)
            state = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
            save_file(state, own / "model.safetensors")
            config = dict(architecture=name, num_classes=5, num_features=24,
                          global_pool=getattr(model, "global_pool", None),
                          pretrained_cfg=dict(input_size=[3, 12, 12]))
            (own / "config.json").write_text(json.dumps(config))
            (own / "sizes.json").write_text(json.dumps(sizes(name)))
            images = torch.randn(2, 3, 12, 12)
            with torch.no_grad():
                logits = model(images)
            save_file({"images": images, "logits": logits.contiguous()}, own / "expected.safetensors")
    if unmade:
        sys.exit("no tiny network of %s: add their sizes to build" % ", ".join(unmade))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
