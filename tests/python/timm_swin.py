"""Compares the Swins that an artifact's load_subnet.py builds with the TorchScript export, with the logits in Rust, and
with timm's own models of the same weights; and tries what it refuses."""

import os
import sys

from loaders import (ROOT, cases, check_damaged, configuration, differences, loader, random, refused, timm,
                     torch)
from timm.layers import DropPath


def compare(case):
    folder = os.path.join(ROOT, case["artifact"])
    if "swin" not in case["artifact"]:
        return []
    if case["artifact"].startswith("swin-apart"):
        # timm's attention has one width for queries, keys and values.
        words = ("option stages.0.blocks.1.qk_dim: got 4", "use the TorchScript")
        refused(lambda: loader(folder).load_subnet(folder), *words)
        return []
    # timm computes attention in windows by two matrix products, TorchScript by scaled_dot_product_attention. timm's own
    # Swin takes no batch without images.
    return differences(case, timm.models.SwinTransformer, 1e-5, 1e-5, batches=(1, 7, 64))


def architecture(image, patch, width, depths, heads, window):
    """Returns that of a Swin whose width and heads double from stage to stage."""
    stages = []
    for at, depth in enumerate(depths):
        own, own_heads = width * 2 ** at, heads * 2 ** at
        block = dict(heads=own_heads, head_dim=own // own_heads, hidden_dim=4 * own, scale_dim=own // own_heads)
        stages.append(dict(embed_dim=own, blocks=[block] * depth))
    return dict(image_size=image, patch_size=patch, in_channels=3, classes=5, window_size=window, stages=stages,
                norm_eps=1e-5, drop_path=0.1)


# Grids that windows divide; that are padded, with one window in the second stage; three stages; a window of one token;
# and Swin-T.
MODELS = [(16, 2, 8, [2, 1], 2, 4), (20, 2, 8, [2, 2], 2, 7), (24, 2, 8, [2, 3, 1], 1, 5), (8, 2, 8, [2, 2], 2, 1),
          (224, 4, 96, [2, 2, 6, 2], 3, 7)]


def images_of(side):
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def rates(model):
    # timm computes them in f32.
    return [round(module.drop_prob, 6) for module in model.modules() if isinstance(module, DropPath)]


def compare_with_timm(module):
    for sizes in MODELS:
        image, patch, width, depths, heads, window = sizes
        own = timm.create_model("swin_tiny_patch4_window7_224", img_size=image, patch_size=patch, embed_dim=width,
                                depths=depths, num_heads=[heads * 2 ** at for at in range(len(depths))],
                                window_size=window, num_classes=5, drop_path_rate=0.1)
        rebuilt = module.build(architecture(*sizes)).eval()
        rebuilt.load_state_dict(random(own).state_dict())
        images = images_of(image)
        assert torch.equal(rebuilt(images), own(images)), sizes
        assert rates(rebuilt) == rates(own) and rebuilt.feature_info == own.feature_info, sizes
        maps = [model.forward_intermediates(images, intermediates_only=True) for model in (rebuilt, own)]
        assert all(torch.equal(*pair) for pair in zip(*maps)) and len(maps[0]) == len(depths), sizes
        for model in (rebuilt, own):
            model.set_input_size((2 * image, 2 * image), window_size=window)
        assert torch.equal(rebuilt(images_of(2 * image)), own(images_of(2 * image))), sizes
    print("load_subnet.py: %d Swins have the logits and feature maps of timm's own exactly" % len(MODELS))


def without_branches():
    """Returns a Swin without the attention of a shifted block, and without both branches of the block after it."""
    sizes = architecture(16, 2, 8, [4, 1], 2, 4)
    blocks = [dict(block) for block in sizes["stages"][0]["blocks"]]
    blocks[1]["heads"] = blocks[2]["heads"] = blocks[2]["hidden_dim"] = 0
    sizes["stages"][0]["blocks"] = blocks
    return sizes


def check_removed_branches(module):
    """At another size of image, and in training, removed branches add their constant."""
    sizes = without_branches()
    resized, other = module.build(sizes), module.build(dict(sizes, image_size=32))
    other.load_state_dict(random(resized).state_dict())
    resized.set_input_size((32, 32), window_size=4)
    assert torch.equal(resized(images_of(32)), other.eval()(images_of(32)))
    # The first block has rate 0; the others have five branches that are not removed.
    assert len(rates(resized)) == 5, rates(resized)
    with torch.inference_mode(False), torch.enable_grad():
        model = module.build(sizes).train()
        model(images_of(16)).sum().backward()
        unused = [name for name, weight in model.named_parameters() if weight.grad is None]
        assert not unused, unused
    print("load_subnet.py: a Swin with removed branches is resized and trained")


def check_reset_classifier(module):
    for dtype in (torch.float32, torch.bfloat16):
        model = module.build(without_branches()).to(dtype)
        model.reset_classifier(7)
        # timm 1.0.23 makes the new head in f32.
        assert model.to(dtype)(images_of(16).to(dtype)).shape == (2, 7)
        model.reset_classifier(0)
        assert model(images_of(16).to(dtype)).shape == (2, 16)
    print("load_subnet.py: a new head reads the features of a Swin")


def check_refusals(module, folder):
    options, count = configuration(folder)["architecture"], 0

    def built(**changes):
        return lambda: module.build(dict(options, **changes))

    def with_block(change):
        first, *rest = options["stages"]
        return built(stages=[dict(first, blocks=[change] + first["blocks"][1:])] + rest)

    for name in options:
        rest = {own: value for own, value in options.items() if own != name}
        count += refused(lambda: module.build(rest), "option " + name, "got 'none'")
        count += refused(built(**{name: "text"}), "option " + name, "got 'text'")
    for name in ("image_size", "patch_size", "in_channels", "classes", "window_size"):
        count += refused(built(**{name: 0}), "option %s: got 0, expected at least 1" % name)
    stage = options["stages"][0]
    count += refused(built(novel=3), "option novel: got 3")
    count += refused(built(stages=[]), "option stages: got [], expected at least one")
    odd = options["image_size"] + 1
    count += refused(built(image_size=odd), "option image_size: got %d, expected a multiple of patches" % odd)
    count += refused(built(norm_eps=-1.0), "option norm_eps: got -1.0, expected at least 0")
    count += refused(built(stages=[[]]), "option stages.0: got []")
    count += refused(built(stages=[stage, dict(stage, novel=1)]), "option stages.1.novel: got 1")
    count += refused(built(stages=[stage, dict(stage, embed_dim=0)]), "option stages.1.embed_dim: got 0")
    count += refused(built(stages=[stage, dict(blocks=[])]), "option stages.1.embed_dim: got 'none'")
    block = stage["blocks"][0]
    for name in block:
        rest = {own: value for own, value in block.items() if own != name}
        count += refused(with_block(rest), "option stages.0.blocks.0." + name, "expected int")
        count += refused(with_block(dict(block, **{name: -1})), "option stages.0.blocks.0.%s: got -1" % name)
    count += refused(with_block([]), "option stages.0.blocks.0: got []")
    count += refused(with_block(dict(block, novel=1)), "option stages.0.blocks.0.novel: got 1")
    count += check_damaged(folder, "vit", "head.fc.weight")
    print("load_subnet.py: %d wrong artifacts of Swins are refused" % count)


with torch.inference_mode():
    plain = os.path.join(ROOT, "swin-f32")
    compare_with_timm(loader(plain))
    check_removed_branches(loader(plain))
    check_reset_classifier(loader(plain))
    check_refusals(loader(plain), plain)
    failed = cases.run("load_subnet.py of Swins in timm " + timm.__version__, ROOT, compare)
sys.exit(failed)
