"""What the tests of load_subnet.py have in common for all families: how it is imported, what its networks are compared
with, and the damaged artifacts that it refuses. Ends the program where this Python has no timm."""

import importlib.util
import json
import os
import shutil
import sys
import warnings

# scripts/python-tests replaces CUDA libraries by empty ones; lazy binding resolves their functions
# only when they are called.
sys.setdlopenflags(os.RTLD_LAZY)
warnings.filterwarnings("ignore")

import torch

try:
    import timm
except ImportError:
    # Possible only with OFB_PYTHON.
    print("timm: SKIPPED, this Python has no timm", file=sys.stderr)
    sys.exit(0)

import cases

ROOT = sys.argv[1]


def loader(folder):
    """Imports the load_subnet.py of an artifact."""
    spec = importlib.util.spec_from_file_location("load_subnet", os.path.join(folder, "load_subnet.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tensor(entry):
    return cases.numbers(ROOT, entry, lambda data: torch.frombuffer(data, dtype=torch.float32))


def differences(case, cls, from_script, from_expected, batches=cases.BATCHES):
    """Compares the rebuilt network, of class `cls`, with TorchScript and with the expected logits; `from_script` and
    `from_expected` are the differences that are allowed, as shares of the largest logit."""
    folder = os.path.join(ROOT, case["artifact"])
    model, images, expected = loader(folder).load_subnet(folder), tensor(case["images"]), tensor(case["logits"])
    assert isinstance(model, cls) and not model.training
    script = torch.jit.load(os.path.join(folder, "model.torchscript.pt")).eval().float()
    logits, scale = model(images), expected.abs().max().item()
    assert logits.shape == expected.shape, (logits.shape, expected.shape)
    difference = (logits - script(images)).abs().max().item()
    assert difference <= from_script * scale, (case, "differs from TorchScript", difference)
    # Another build of torch may order sums otherwise.
    results = [("in f32", (logits - expected).abs().max().item(), from_expected * scale),
               ("at other batch sizes", cases.at_other_batch_sizes(model, images, expected, batches),
                1e-5 * scale)]
    for precision, dtype in [("f16", torch.float16), ("bf16", torch.bfloat16)]:
        if case["artifact"].endswith("-" + precision):
            stored = loader(folder).load_subnet(folder, dtype=None)
            assert all(weight.dtype == dtype for weight in stored.parameters())
            difference = (stored(images.to(dtype)).float() - expected).abs().max().item()
            results.append(("in " + precision, difference, 16 * torch.finfo(dtype).eps * scale))
    return results


def random(model):
    """Gives the model random weights, with norms around 1."""
    generator = torch.Generator().manual_seed(0)
    for name, weight in model.named_parameters():
        scale = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        weight.copy_(scale + 0.2 * torch.randn(weight.shape, generator=generator))
    return model.eval()


def refused(call, *words):
    """Checks that a call is refused with all these words."""
    try:
        call()
    except ValueError as error:
        assert all(word in str(error) for word in words), error
        return 1
    raise AssertionError("not refused: %s" % (words,))


def configuration(folder):
    with open(os.path.join(folder, "config.json")) as file:
        return json.load(file)


def check_damaged(folder, family, head):
    """Checks that copies of an artifact with damaged files, or of another `family`, are refused; `head` is the weight
    whose shape depends on the classes. Returns how many there are."""
    config, copy, count = configuration(folder), os.path.join(ROOT, "copy of an artifact"), 0

    def damaged(change):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        change()
        return lambda: loader(copy).load_subnet(copy)

    def whole(contents):
        def write():
            with open(os.path.join(copy, "config.json"), "w") as file:
                json.dump(contents, file)
        return damaged(write)

    def with_config(**changes):
        return whole(dict(config, **changes))

    def with_file(name, edit):
        def write():
            with open(os.path.join(copy, name), "r+b") as file:
                edit(file)
        return damaged(write)

    for name, value in [("format", "other"), ("version", 3), ("family", family)]:
        count += refused(with_config(**{name: value}), "config.json: %s: got %r" % (name, value))
    for name, wrong in [("weights_crc32", None), ("weights_crc32", "0"), ("architecture", None), ("architecture", [])]:
        count += refused(with_config(**{name: wrong}), "config.json: %s: got %r" % (name, wrong))
    for name in ("weights_crc32", "architecture"):
        rest = {own: value for own, value in config.items() if own != name}
        count += refused(whole(rest), "config.json: %s: got 'none'" % name)
    count += refused(whole([]), "config.json: got []")
    other = dict(config["architecture"], classes=3)
    count += refused(with_config(architecture=other), "model.safetensors", "of another network", head)
    for size in (0, 100):
        count += refused(with_file("model.safetensors", lambda file: file.truncate(size)), "checksum: got")
    count += refused(with_file("config.json", lambda file: file.truncate(20)), "config.json: got no JSON")
    # Without an argument, the folder of the file itself.
    damaged(lambda: None)
    assert dict(loader(copy).load_subnet().named_parameters())[head].shape[0] == config["architecture"]["classes"]
    return count
