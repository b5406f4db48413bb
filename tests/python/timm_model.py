"""Compares the networks that an artifact's load_subnet.py builds with the TorchScript export, with the
logits in Rust, and with timm's own models of the same weights; and tries what it refuses."""

import math
import os
import sys

from loaders import (ROOT, cases, check_damaged, configuration, differences, loader, random, refused, timm,
                     torch)


def compare(case):
    folder = os.path.join(ROOT, case["artifact"])
    if "swin" in case["artifact"]:
        return []
    if case["artifact"].startswith("apart"):
        # timm's attention has one width for queries, keys and values.
        refused(lambda: loader(folder).load_subnet(folder), "option blocks.0.qk_dim: got 5", "use the TorchScript")
        return []
    return differences(case, timm.models.VisionTransformer, 0.0, 1e-6)


SIZES = dict(img_size=12, patch_size=4, embed_dim=24, depth=2, num_heads=3, num_classes=5)
SIDES = dict(image_size=12, patch_size=4, in_channels=3, classes=5, embed_dim=24, distilled=False,
             norm_eps=1e-6, drop_path=0.0)
CLIP = dict(pre_norm=True, patch_bias=False, norm_eps=1e-5)
GAP = dict(class_token=False, pooling="mean")
MAP = dict(class_token=False, pooling={"attention": dict(
    sizes=dict(heads=3, head_dim=8, hidden_dim=96, scale_dim=8), latent_dim=24, embed_dim=24)})
REGISTERS = dict(registers=4, positions="patches", layer_scale=1e-5)
EVA02 = dict(rope={"grid": dict(base=10000.0, reference=16)}, mlp="swi_glu", qkv_bias="query_value",
             pooling="mean_norm")
DINOV3 = dict(rope={"normalised": dict(base=100.0)}, registers=4, positions="none", layer_scale=1e-5,
              qkv_bias="none", pooling="mean", norm_eps=1e-5)
# A name of timm, options of VitConfig, and arguments of timm.
MODELS = [
    ("vit_tiny_patch16_224", {}, {}),
    ("vit_tiny_patch16_224", dict(pooling="mean_norm"), dict(global_pool="avg")),
    ("vit_tiny_patch16_224", dict(pooling="tokens"), dict(global_pool="")),
    ("vit_tiny_patch16_224", dict(image_width=20, patch_width=5), dict(img_size=(12, 20), patch_size=(4, 5))),
    ("vit_tiny_patch16_224", dict(qk_norm="rms", norm="rms"), dict(qk_norm=True, norm_layer="rmsnorm")),
    ("vit_tiny_patch16_224", dict(qkv_bias="none", positions="none"), dict(qkv_bias=False, pos_embed="none")),
    ("deit_tiny_distilled_patch16_224", dict(distilled=True), {}),
    ("deit3_small_patch16_224", dict(positions="patches", layer_scale=1e-6), {}),
    ("vit_small_patch14_dinov2", dict(layer_scale=1e-5), {}),
    ("vit_small_patch14_reg4_dinov2", REGISTERS, {}),
    ("vit_giant_patch14_dinov2", dict(mlp="swi_glu", layer_scale=1e-5), {}),
    ("vit_base_patch32_clip_224", CLIP, {}),
    ("vit_base_patch32_clip_quickgelu_224", dict(CLIP, activation="quick_gelu"), {}),
    ("vit_base_patch16_siglip_224", MAP, {}),
    ("vit_base_patch16_siglip_gap_224", GAP, {}),
    ("eva02_tiny_patch14_224", EVA02, {}),
    ("vit_small_patch16_dinov3", DINOV3, {}),
]


def with_rotations(state, frequencies):
    """Returns weights of timm's Eva with the frequencies of rotary positions, as an artifact has them: the first
    two pairs of a head are of rows, the others of columns."""
    rope = torch.zeros(2, 3, 4)
    rope[0, :, :2] = rope[1, :, 2:] = torch.tensor(frequencies)
    for block in range(2):
        state["blocks.%d.attn.rope" % block] = rope.flatten(1)
        for at in "12":
            name = "blocks.%d.gamma_%s" % (block, at)
            if name in state:
                state["blocks.%d.ls%s.gamma" % (block, at)] = state.pop(name)
    return state


def interleaved(state):
    """Orders the channels of queries and keys, whose pairs are i and i + 4, so that pairs are 2 i and 2 i + 1."""
    order = torch.arange(8).view(2, 4).T.flatten()
    for block in range(2):
        name = "blocks.%d.attn.qkv.weight" % block
        q, k, v = state[name].view(3, 3, 8, 24)
        state[name] = torch.stack([q[:, order], k[:, order], v]).view(72, 24)
    return state


def compare_with_timm(module):
    for name, options, arguments in MODELS:
        model = random(timm.create_model(name, **dict(SIZES, **arguments)))
        state = dict(model.state_dict())
        if name.startswith("eva02"):
            state = with_rotations(state, [1.0, 0.01])
        elif "dinov3" in name:
            state = interleaved(with_rotations(state, [2 * math.pi, 0.2 * math.pi]))
        hidden = state["blocks.0.mlp.fc2.weight"].shape[1]
        block = dict(heads=3, head_dim=8, hidden_dim=hidden, scale_dim=8)
        rebuilt = module.build(dict(SIDES, **dict(options, blocks=[block, block]))).eval()
        rebuilt.load_state_dict(state)
        images = torch.randn(3, 3, *model.patch_embed.img_size, generator=torch.Generator().manual_seed(1))
        expected = model(images)
        difference = (rebuilt(images) - expected).abs().max().item()
        # With channels in another order, products of queries and keys are summed in another order.
        allowed = 1e-6 * expected.abs().max().item() if "dinov3" in name else 0.0
        assert difference <= allowed, (name, options, difference)
    print("load_subnet.py: %d networks have the logits of timm's own, all but DINOv3's exactly" % len(MODELS))


def check_reset_classifier(module):
    """A new head, as for fine-tuning, reads what is pooled: with every pooling, and in the type of the weights."""
    pools = [dict(pooling=name) for name in ("class_token", "class_and_mean", "tokens", "mean", "mean_norm")]
    wide = dict(MAP["pooling"]["attention"], embed_dim=40)
    pools += [MAP, dict(class_token=False, pooling={"attention": wide}), dict(distilled=True)]
    block = dict(heads=3, head_dim=8, hidden_dim=96, scale_dim=8)
    for pool in pools:
        for dtype in (torch.float32, torch.bfloat16):
            model = module.build(dict(SIDES, **dict(pool, blocks=[block]))).to(dtype)
            images = torch.zeros(2, 3, 12, 12, dtype=dtype)
            before = model(images).shape
            model.reset_classifier(7)
            assert model(images).shape == before[:-1] + (7,), pool
            assert model.head.training and model.head.weight.dtype == dtype
            model.reset_classifier(0)
            assert model(images).shape[:-1] == before[:-1], pool
    model = module.build(dict(SIDES, pooling="class_and_mean", blocks=[block]))
    model.reset_classifier(7, "avg")
    assert model(torch.zeros(2, 3, 12, 12)).shape == (2, 7) and model.head.in_features == 24
    print("load_subnet.py: a new head reads %d kinds of pooled features" % len(pools))


def check_refusals(module, folder):
    config = configuration(folder)

    def built(**options):
        return lambda: module.build(dict(config["architecture"], **options))

    count = refused(built(novel=3), "option novel", "got 3")
    count += refused(built(distilled=True, registers=2), "registers", "got 2,", "VisionTransformerDistilled")
    count += refused(built(distilled=True, positions="none"), "positions", "'none'")
    architecture, block = config["architecture"], config["architecture"]["blocks"][0]
    for name in ("distilled", "classes", "blocks", "norm_eps", "drop_path"):
        rest = {own: value for own, value in architecture.items() if own != name}
        count += refused(lambda: module.build(rest), "option " + name, "got 'none'")
        count += refused(built(**{name: "text"}), "option " + name, "got 'text'")
    for name in block:
        rest = {own: value for own, value in block.items() if own != name}
        count += refused(built(blocks=[block, rest]), "option blocks.1." + name, "expected int")
    count += refused(built(blocks=[[]]), "option blocks.0: got []")
    count += refused(built(blocks=[dict(block, novel=1)]), "option blocks.0.novel", "got 1")
    for pool in ("attention", {"attention": {}}, {"attention": dict(MAP["pooling"]["attention"], sizes={})}):
        count += refused(built(class_token=False, pooling=pool), "option pooling.attention")
    for rope in ("grid", {"grid": {"base": 100.0}}, {"normalised": []}):
        count += refused(built(rope=rope), "option rope.")
    for option in ("norm", "qk_norm", "activation", "mlp", "qkv_bias", "rope", "pooling", "positions"):
        count += refused(built(**{option: "other"}), "option " + option, "got 'other'")
    for name in ("image_size", "patch_size", "embed_dim"):
        count += refused(built(**{name: 0}), "option %s: got 0, expected at least 1" % name)
    count += refused(built(blocks=[dict(block, heads=-1)]), "option blocks.0.heads: got -1, expected at least 0")
    pool = MAP["pooling"]["attention"]
    for name in ("heads", "hidden_dim"):
        none = {"attention": dict(pool, sizes=dict(pool["sizes"], **{name: 0}))}
        count += refused(built(class_token=False, pooling=none), "attention.sizes.%s: got 0" % name)
    for name, value in (("registers", -1), ("image_width", 0), ("patch_width", 0), ("norm_eps", -1.0),
                        ("drop_path", -0.5), ("registers", True)):
        count += refused(built(**{name: value}), "option %s: got %r, expected" % (name, value))
    odd = architecture["image_size"] + 1
    count += refused(built(image_size=odd), "option image_size: got (%d, %d), expected multiples" % (odd, odd))
    count += check_damaged(folder, "swin", "head.weight")
    print("load_subnet.py: %d wrong artifacts are refused" % count)


with torch.inference_mode():
    plain = os.path.join(ROOT, "plain-f32")
    compare_with_timm(loader(plain))
    check_refusals(loader(plain), plain)
    check_reset_classifier(loader(plain))
    failed = cases.run("load_subnet.py in timm " + timm.__version__, ROOT, compare)
sys.exit(failed)
