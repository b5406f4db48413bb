"""Tests of scripts/dinov2_small.py on a synthetic ONNX file of one block: names, layouts, positions,
refusals. Python's standard library alone."""

import json
import os
import struct
import sys
from array import array

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts"))

import dinov2_small  # noqa: E402
from libtorch import Stop  # noqa: E402

ROOT = sys.argv[1]
WIDTH, HIDDEN, PATCH, OLD = 4, 6, 2, 3
LAYER = "backbone.encoder.layer.0."


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def constant(name, shape, first):
    count = 1
    for size in shape:
        count *= size
    data = array("f", [first + at for at in range(count)])
    if sys.byteorder == "big":
        data.byteswap()
    return field(5, field(1, b"".join(map(varint, shape))) + field(2, 1) + field(8, name) + field(9, data.tobytes()))


def node(operation, inputs, output, **attributes):
    message = b"".join(field(1, name) for name in inputs) + field(2, output) + field(4, operation)
    for name, value in attributes.items():
        message += field(5, field(1, name) + field(2 if isinstance(value, float) else 4, value))
    return field(1, message)


def linear(name, inputs, outputs, first):
    """x . W + b, where W has no name of its own and the bias comes first."""
    weight, bias = "onnx::MatMul_%d" % first, name + ".bias"
    return (constant(weight, [inputs, outputs], first) + constant(bias, [outputs], first + 0.5)
            + node("MatMul", ["x", weight], name + ".product") + node("Add", [bias, name + ".product"], name))


def graph(mode="half_pixel", break_fc2=False):
    attention = LAYER + "attention."
    parts = [
        constant("backbone.embeddings.cls_token", [1, 1, WIDTH], 1),
        constant("backbone.embeddings.patch_embeddings.projection.weight", [WIDTH, 3, PATCH, PATCH], 2),
        constant("backbone.embeddings.patch_embeddings.projection.bias", [WIDTH], 3),
        constant("onnx::Concat_1", [1, 1, WIDTH], 7),
        constant("onnx::Reshape_2", [1, OLD * OLD, WIDTH], 0),
        node("Expand", ["backbone.embeddings.cls_token", "shape"], "class"),
        node("Concat", ["class", "patches"], "tokens"),
        node("Reshape", ["onnx::Reshape_2", "shape"], "grid"),
        node("Transpose", ["grid"], "image"),
        node("Resize", ["image", "", "", "sizes"], "resized", mode="cubic",
             coordinate_transformation_mode=mode, cubic_coeff_a=-0.75),
        node("Reshape", ["resized", "shape"], "rows"),
        node("Concat", ["onnx::Concat_1", "rows"], "positions"),
        # Not in the order of queries, keys, values.
        linear(attention + "attention.key", WIDTH, WIDTH, 200),
        linear(attention + "attention.value", WIDTH, WIDTH, 300),
        linear(attention + "attention.query", WIDTH, WIDTH, 100),
        linear(attention + "output.dense", WIDTH, WIDTH, 400),
        linear(LAYER + "mlp.fc1", WIDTH, HIDDEN, 500),
        constant("backbone.layernorm.weight", [WIDTH], 20),
        constant("backbone.layernorm.bias", [WIDTH], 21),
        constant("decoder.weight", [2, 2], 0),
    ]
    if break_fc2:
        parts.append(constant(LAYER + "mlp.fc2.bias", [WIDTH], 0))
        parts.append(node("Add", [LAYER + "mlp.fc2.bias", "x"], "y"))
    else:
        parts.append(linear(LAYER + "mlp.fc2", HIDDEN, WIDTH, 600))
    for at, name in enumerate(["norm1", "norm2"]):
        parts += [constant(LAYER + name + ".weight", [WIDTH], 30 + at), constant(LAYER + name + ".bias", [WIDTH], 40 + at)]
        parts.append(constant(LAYER + "layer_scale%d.lambda1" % (at + 1), [WIDTH], 50 + at))
    return field(1, 8) + field(7, b"".join(parts))


def convert(data, side):
    onnx, out = os.path.join(ROOT, "tiny.onnx"), os.path.join(ROOT, "tiny.safetensors")
    with open(onnx, "wb") as file:
        file.write(data)
    dinov2_small.convert(onnx, out, side)
    with open(out, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header, body = json.loads(file.read(size)), file.read()
    return {name: (entry["shape"], list(struct.unpack(
        "<%df" % ((entry["data_offsets"][1] - entry["data_offsets"][0]) // 4), body[slice(*entry["data_offsets"])])))
        for name, entry in header.items()}


def refused(data, words):
    try:
        convert(data, 2)
    except Stop as stop:
        return words in str(stop)
    return False


def transposed(rows, columns, first):
    return [float(first + row * columns + column) for column in range(columns) for row in range(rows)]


found = convert(graph(), OLD)
assert len(found) == 6 + 14, sorted(found)
shape, weight = found["blocks.0.attn.qkv.weight"]
assert shape == [3 * WIDTH, WIDTH]
assert weight == sum((transposed(WIDTH, WIDTH, first) for first in (100, 200, 300)), []), weight
assert found["blocks.0.attn.qkv.bias"][1][::WIDTH] == [100.5, 200.5, 300.5]
assert found["blocks.0.mlp.fc1.weight"] == ([HIDDEN, WIDTH], transposed(WIDTH, HIDDEN, 500))
assert found["blocks.0.mlp.fc2.weight"] == ([WIDTH, HIDDEN], transposed(HIDDEN, WIDTH, 600))
assert found["blocks.0.ls2.gamma"][1][0] == 51 and found["blocks.0.norm2.bias"][1][0] == 41
assert found["patch_embed.proj.weight"][0] == [WIDTH, 3, PATCH, PATCH]
# Positions of the old grid are copied, behind that of the class token.
assert found["pos_embed"] == ([1, 10, WIDTH], [7.0, 8.0, 9.0, 10.0] + [float(at) for at in range(36)])
# Of 3 x 3, the four of 2 x 2 lie at 0.25 and 1.75; t = 0.25 of a row has the weights -0.10546875,
# 0.87890625, 0.26171875, -0.03515625 of the rows -1 (that is 0), 0, 1, 2.
first = 0.26171875 - 2 * 0.03515625
expected = [4 * (3 * y + x) + e for y in (first, 2 - first) for x in (first, 2 - first) for e in range(WIDTH)]
positions = convert(graph(), 2)["pos_embed"][1][WIDTH:]
assert all(abs(a - b) < 1e-5 for a, b in zip(positions, expected)), (positions, expected)
assert refused(graph(mode="align_corners"), "another graph")
assert refused(graph(break_fc2=True), "mlp.fc2.bias")
assert refused(field(7, b""), "ONNX")
whole = graph()
for length in (1, len(whole) // 2, len(whole) - 1):
    assert refused(whole[:length], "truncated"), length
print("scripts/dinov2_small.py: a synthetic file is converted, others are refused")
