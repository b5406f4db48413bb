"""Writes the files of the folder torch/ beside it: what torch.save makes of tensors and types that are
rare in checkpoints.

Python 3.11; torch==2.13.0. Run it in this folder: python make_torch.py
"""

import io
from pathlib import Path

import torch

FOLDER = Path(__file__).parent / "torch"


def save(name, value):
    """Writes a file with an entry of this value, which has the same bytes every time."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    (FOLDER / f"{name}.pth").write_bytes(buffer.getvalue())


def layout_files():
    """Tensors that share storages, or have attributes; their values are 0, 1, 2, …"""
    numbers = torch.arange(12, dtype=torch.float32)
    table = numbers.reshape(3, 4)
    parameter = torch.nn.Parameter(numbers[:3].clone())
    parameter.note = "a parameter with an attribute"
    noted = numbers[3:6].clone()
    noted.note = "a tensor with an attribute"
    save("layouts", {
        "transposed": table.t(),
        "offset": numbers[7:9],
        "every_third": numbers[::3],
        "column": table[:, 2],
        "scalar": numbers[5],
        "empty": torch.empty(0, 3),
        "empty_of_storage": numbers[4:4],
        "parameter": parameter,
        "noted": noted,
        "buffer": torch.nn.Buffer(numbers[:2].clone()),
        "double": numbers[:3].double(),
        "half": numbers[:3].half(),
        "brain": numbers[:3].bfloat16(),
        "bool": torch.tensor([True, False, True]),
        "int8": torch.tensor([-1, 2], dtype=torch.int8),
        "int64": torch.tensor([-1, 2**40]),
    })
    pair = torch.tensor([3 - 1j, 4 + 2j], dtype=torch.complex64)
    # torch.load gives [1, -2] and [-1, 2].
    save("negative_bit", {"negative": pair.conj().imag, "plain": pair.imag})


def checksum_files():
    torch.serialization.set_crc32_options(False)
    save("no_checksums", {"weight": torch.arange(6, dtype=torch.float32)})
    torch.serialization.set_crc32_options(True)


def unsupported_files():
    ones = torch.ones(2)
    for name, tensor in {
        "complex": torch.ones(2, dtype=torch.complex64),
        "conjugate_bit": torch.ones(2, dtype=torch.complex64).conj(),
        "float8": ones.to(torch.float8_e4m3fn),
        "uint16": ones.to(torch.uint16),
        "meta": ones.to("meta"),
        "sparse": ones.to_sparse(),
        "quantised": torch.quantize_per_tensor(ones, 0.1, 0, torch.qint8),
        "nested": torch.nested.nested_tensor([ones, ones[:1]]),
    }.items():
        save(f"unsupported_{name}", {"norm.weight": ones, "norm.bias": tensor})


class Scale(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))

    def forward(self, x):
        return x * self.weight


class Doubled(torch.Tensor):
    """A tensor of a class of its own, which could mean anything."""


def refused_files():
    torch.jit.script(Scale()).save(FOLDER / "script.pt")
    save("own_class", {"norm.bias": torch.ones(2).as_subclass(Doubled)})


if __name__ == "__main__":
    print(torch.__version__)
    FOLDER.mkdir(exist_ok=True)
    for make in [layout_files, checksum_files, unsupported_files, refused_files]:
        make()
