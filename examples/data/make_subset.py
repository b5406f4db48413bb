#!/usr/bin/env python3
"""Write a small class-balanced subset of an IDX data set in MNIST's layout.

    python3 make_subset.py SOURCE_FOLDER [OUTPUT_FOLDER]

SOURCE_FOLDER holds the four standard files of the whole data set
(`train-images-idx3-ubyte.gz` and so on), for instance
/usr/share/datasets/fashion-mnist of the Debian package dataset-fashion-mnist.
OUTPUT_FOLDER is by default the folder of this script; existing files are
overwritten.

The subset has the first images of every class (600 for training, 100 for
testing) in the order of the source file, so the classes are mixed. The gzip
headers have no time and no name, so the output depends on the source alone.
Needs only the standard library.
"""

import argparse
import gzip
import hashlib
import pathlib
import struct
import sys
import zlib

CLASSES = 10
PER_CLASS = {"train": 600, "t10k": 100}
UNSIGNED_BYTE = 0x08
# ID1 ID2, deflate, no flags (so no name), time 0, best compression, OS unknown
GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"


def read_idx(path):
    """Return the shape and the bytes of a gzip-compressed IDX file of u8."""
    content = gzip.decompress(path.read_bytes())
    zeros, kind, rank = struct.unpack_from(">HBB", content)
    if zeros != 0 or kind != UNSIGNED_BYTE:
        sys.exit(f"{path}: got another format, expected an IDX file of unsigned bytes")
    shape = struct.unpack_from(f">{rank}I", content, 4)
    values = content[4 + 4 * rank :]
    expected = 1
    for size in shape:
        expected *= size
    if len(values) != expected:
        sys.exit(f"{path}: got {len(values)} values, expected {expected}")
    return shape, values


def write_idx(path, shape, values):
    """Write u8 values as a gzip-compressed IDX file and print its checksums."""
    content = struct.pack(f">HBB{len(shape)}I", 0, UNSIGNED_BYTE, len(shape), *shape)
    content += values
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9)
    packed = GZIP_HEADER + packer.compress(content) + packer.flush()
    packed += struct.pack("<II", zlib.crc32(content), len(content) & 0xFFFFFFFF)
    path.write_bytes(packed)
    print(f"{path.name}: shape {shape}, {len(packed)} bytes")
    print(f"  sha256          {hashlib.sha256(packed).hexdigest()}")
    print(f"  sha256 unpacked {hashlib.sha256(content).hexdigest()}")


def first_of_each_class(labels, per_class):
    """Return, in ascending order, the indices of the first images of each class."""
    seen = [0] * CLASSES
    chosen = []
    for place, label in enumerate(labels):
        if seen[label] < per_class:
            seen[label] += 1
            chosen.append(place)
    if min(seen) < per_class:
        sys.exit(f"images per class: got {seen}, expected at least {per_class} each")
    return chosen


def cut(source, target, split, per_class):
    """Write the subset of one split."""
    images_name = f"{split}-images-idx3-ubyte.gz"
    labels_name = f"{split}-labels-idx1-ubyte.gz"
    (count, height, width), pixels = read_idx(source / images_name)
    _, labels = read_idx(source / labels_name)
    if len(labels) != count:
        sys.exit(f"{split}: got {len(labels)} labels, expected {count}, the number of images")
    chosen = first_of_each_class(labels, per_class)
    size = height * width
    images = b"".join(pixels[at * size : (at + 1) * size] for at in chosen)
    write_idx(target / images_name, (len(chosen), height, width), images)
    write_idx(target / labels_name, (len(chosen),), bytes(labels[at] for at in chosen))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=pathlib.Path, help="folder of the whole data set")
    here = pathlib.Path(__file__).resolve().parent
    parser.add_argument("target", type=pathlib.Path, nargs="?", default=here)
    arguments = parser.parse_args()
    if arguments.source.resolve() == arguments.target.resolve():
        sys.exit("target: got the source folder, expected another; the source would be overwritten")
    for split, per_class in PER_CLASS.items():
        cut(arguments.source, arguments.target, split, per_class)


if __name__ == "__main__":
    main()
