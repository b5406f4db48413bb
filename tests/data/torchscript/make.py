"""Writes vit.pt, a tiny timm ViT traced to TorchScript, and vit.safetensors, images and logits.

    pip install torch==2.13.0 timm==1.0.26 safetensors && python make.py
"""

from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent

torch.manual_seed(7)
model = timm.models.VisionTransformer(
    img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=5
).eval()
for parameter in model.parameters():
    # Nonzero biases, so that the test detects a wrong one.
    torch.nn.init.normal_(parameter, 1.0 if parameter.ndim == 1 else 0.0, 0.1)

images = torch.randn(3, 3, 32, 32)
traced = torch.jit.trace(model, images[:2])
with torch.no_grad():
    logits = model(images)
    assert torch.allclose(traced(images), logits, atol=1e-6), "the traced module depends on the batch size"
assert all(parameter.requires_grad for parameter in traced.parameters())

traced.save(HERE / "vit.pt")
save_file({"images": images, "logits": logits}, HERE / "vit.safetensors")
