"""Rebuilds the subnet of an artifact of once-for-both in Python, from timm's modules, block by block.

    import sys; sys.path.insert(0, "subnet")            # the folder of the artifact, which has this file
    from load_subnet import load_subnet
    logits = load_subnet("subnet")(images)  # [B, C, H, W] -> [B, classes]; evaluation mode, weights in f32

It needs torch 2.1 and timm 1.0.23 or newer. Parameters have the names of model.safetensors. Modules are timm's own
at other sizes, or subclasses of them below for what timm's cannot do. The first part of this file is the same for all
families of networks; `build`, in the second, is that of one.
"""

import inspect
import json
import math
import os
import zlib
from functools import partial

import torch
from torch import nn

try:
    from timm.models.vision_transformer import Attention
    if "attn_head_dim" not in inspect.signature(Attention).parameters:
        raise ImportError("its Attention has no attn_head_dim")
except ImportError as error:
    raise ImportError("timm: got none of the right version (%s), expected 1.0.23 or newer; pip install "
                      "--upgrade timm" % error) from error

OTHER, AGAIN = "take the load_subnet.py of the version that wrote the artifact", "copy the folder again"
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
NUMBER = (int, float)
# Sizes of a block, with their types. Those of a removed branch are 0.
BLOCK_SIZES = {"heads": int, "head_dim": int, "hidden_dim": int, "scale_dim": int}
REMOVABLE = ("heads", "hidden_dim")


class SubnetError(ValueError):
    """An artifact that cannot be rebuilt."""
    def __init__(self, what, got, expected, do=OTHER):
        super().__init__("%s: got %s, expected %s; %s" % (what, got, expected, do))


def load_subnet(folder=None, dtype=torch.float32, device="cpu"):
    """Returns the subnet of an artifact in evaluation mode. `folder` is by default that of this file; `dtype` None
    keeps the type of the stored weights."""
    folder = os.path.dirname(os.path.abspath(__file__)) if folder is None else folder
    path, of = (os.path.join(folder, name) for name in ("model.safetensors", "config.json"))
    try:
        with open(of, encoding="utf-8") as file:
            config = json.load(file)
    except ValueError as error:
        raise SubnetError(of, "no JSON (%s)" % error, "a JSON object", AGAIN) from error
    check_names(of + ": ", config, {"format": str})
    for name, expected in [("format", ["once-for-both/subnet"]), ("version", [1, 2]), ("family", [FAMILY])]:
        if config.get(name) not in expected:
            raise SubnetError("%s: %s" % (of, name), repr(config.get(name)), " or ".join(map(repr, expected)))
    check_names(of + ": ", config, {"weights_crc32": int, "architecture": dict}, may_be_zero=("weights_crc32",))
    weights = read_weights(path, config["weights_crc32"])
    model = build(config["architecture"]).to(dtype or next(iter(weights.values())).dtype)
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise SubnetError(path, "tensors of another network (%s)" % error, "those of config.json", AGAIN) from error
    return model.to(device).eval()


def read_weights(path, crc32):
    """Returns the tensors of a safetensors file by name, after checking its CRC-32."""
    with open(path, "rb") as file:
        data = bytearray(file.read())
    if zlib.crc32(data) != crc32:
        raise SubnetError(path + ": checksum", "%08x" % zlib.crc32(data), "%08x" % crc32, AGAIN)
    start = 8 + int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8:start]), memoryview(data)[start:]
    header.pop("__metadata__", None)
    # Copies, as the place of a tensor in the file may be odd for its type.
    copies = {name: bytearray(body[slice(*own["data_offsets"])]) for name, own in header.items()}
    return {name: torch.frombuffer(copies[name], dtype=DTYPES[own["dtype"]]).reshape(own["shape"])
            for name, own in header.items()}


def check_names(parent, options, sizes, known=None, may_be_zero=()):
    """Refuses options without one of the sizes, of another type or too small, or, where `known` is given, of any other
    name."""
    if not isinstance(options, dict):
        raise SubnetError(parent.rstrip(":. "), repr(options), "an object with " + ", ".join(sizes))
    for name, types in sizes.items():
        value, least = options.get(name, "none"), 0 if name in may_be_zero or types is NUMBER else 1
        if not isinstance(value, types) or isinstance(value, bool) and types is not bool:
            raise SubnetError(parent + name, repr(value), getattr(types, "__name__", "a number"))
        if types in (int, NUMBER) and not value >= least:
            raise SubnetError(parent + name, repr(value), "at least %d" % least)
    for name in () if known is None else (own for own in options if own not in known and own not in sizes):
        raise SubnetError(parent + name, repr(options[name]), "none of this name")


def check_block(name, sizes):
    """Refuses sizes of a block, which the error calls `name`, that timm's modules cannot hold."""
    if isinstance(sizes, dict) and sizes.get("qk_dim") is not None:
        raise SubnetError("option %s.qk_dim" % name, repr(sizes["qk_dim"]), "none, as timm's attention has one width "
                          "for queries, keys and values", "use the TorchScript or the ONNX export")
    check_names("option %s." % name, sizes, BLOCK_SIZES, (), REMOVABLE)


def drop_paths(last, blocks):
    """Returns the rate of stochastic depth of each block, which rises linearly from 0 to `last`."""
    return [last * at / max(blocks - 1, 1) for at in range(blocks)]


class Removed(nn.Module):
    """What a removed attention or MLP adds to every token: the bias of its last layer, of this name."""
    def __init__(self, width, last):
        super().__init__()
        self.last = last
        self.add_module(last, nn.ParameterDict({"bias": torch.zeros(width)}))

    def forward(self, x, **_):
        return getattr(self, self.last)["bias"].expand_as(x)


def with_branches(block, width, attention, mlp):
    """Gives a block of timm its attention and MLP, and returns it. A removed one, None, has no norm and no stochastic
    depth."""
    for at, name, last, own in (("1", "attn", "proj", attention), ("2", "mlp", "fc2", mlp)):
        setattr(block, name, Removed(width, last) if own is None else own)
        for other in ("norm", "drop_path") if own is None else ():
            setattr(block, other + at, nn.Identity())
    return block
