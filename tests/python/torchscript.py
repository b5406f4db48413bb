"""Compares the logits of model.torchscript.pt with the expected ones; imports only torch."""

import os
import sys
import warnings

# scripts/python-tests replaces CUDA libraries by empty ones; lazy binding resolves their functions
# only when they are called.
sys.setdlopenflags(os.RTLD_LAZY)

# torch warns that numpy is missing.
warnings.filterwarnings("ignore", message="Failed to initialize NumPy")

import torch

import cases

ROOT = sys.argv[1]
# Some of timm's parameter names, by family.
NAMES = {
    "vit": ["blocks.0.attn.qkv.weight", "head.weight"],
    "swin": ["layers.1.downsample.reduction.weight", "head.fc.bias"],
}
# Allowed difference of half precision: rounding of weights and activations.
HALF = {"f16": 16 * torch.finfo(torch.float16).eps, "bf16": 16 * torch.finfo(torch.bfloat16).eps}


def tensor(entry):
    return cases.numbers(ROOT, entry, lambda data: torch.frombuffer(data, dtype=torch.float32))


@torch.inference_mode()
def compare(case):
    model = torch.jit.load(os.path.join(ROOT, case["artifact"], "model.torchscript.pt")).eval()
    images, expected = tensor(case["images"]), tensor(case["logits"])
    scale = expected.abs().max().item()

    def difference(logits):
        assert logits.shape == expected.shape, (logits.shape, expected.shape)
        return (logits.float() - expected).abs().max().item()

    results = []
    for precision, share in HALF.items():
        if case["artifact"].endswith("-" + precision):
            results.append(("in " + precision, difference(model(images)), share * scale))
    # Weights are parameters: they convert to f32, and have the names of the safetensors file.
    model = model.float()
    names = model.state_dict()
    wanted = NAMES["swin" if "swin-" in case["artifact"] else "vit"]
    if case["artifact"].startswith("apart"):
        wanted = [name.replace("qkv", "qk") for name in wanted]
    assert all(name in names for name in wanted), list(names)
    results.append(("in f32", difference(model(images)), 1e-5 * scale))
    results.append(("at other batch sizes", cases.at_other_batch_sizes(model, images, expected), 1e-5 * scale))
    return results


def load(folder):
    model = torch.jit.load(os.path.join(folder, "model.torchscript.pt")).eval()
    return lambda shape: list(model(torch.zeros(shape)).shape)


with torch.inference_mode():
    shapes = cases.check_shapes(ROOT, load)
print("TorchScript: %d shapes of images are taken or refused as by the subnet" % shapes)
sys.exit(cases.run("TorchScript in torch " + torch.__version__, ROOT, compare))
