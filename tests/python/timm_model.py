"""Compares the networks that an artifact's load_subnet.py builds with the TorchScript export, with the
logits in Rust, and with timm's own models of the same weights; and tries what it refuses."""

import importlib.util
import json
import math
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


def tensor(entry):
    return cases.numbers(ROOT, entry, lambda data: torch.frombuffer(data, dtype=torch.float32))


def loader(folder):
    """Imports the load_subnet.py of an artifact."""
    spec = importlib.util.spec_from_file_location("load_subnet", os.path.join(folder, "load_subnet.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compare(case):
    folder = os.path.join(ROOT, case["artifact"])
    if "swin-" in case["artifact"]:
        assert not os.path.exists(os.path.join(folder, "load_subnet.py"))
        return []
    if case["artifact"].startswith("apart"):
        # timm's attention has one width for queries, keys and values.
        refused(lambda: loader(folder).load_subnet(folder), "option blocks.0.qk_dim: got 5", "use the TorchScript")
        return []
    model, images, expected = loader(folder).load_subnet(folder), tensor(case["images"]), tensor(case["logits"])
    assert isinstance(model, timm.models.VisionTransformer) and not model.training
    script = torch.jit.load(os.path.join(folder, "model.torchscript.pt")).eval().float()
    logits = model(images)
    assert logits.shape == expected.shape, (logits.shape, expected.shape)
    scale = expected.abs().max().item()
    assert torch.equal(logits, script(images)), (case, "differs from TorchScript")
    # Another build of torch may order sums otherwise.
    results = [("in f32", (logits - expected).abs().max().item(), 1e-6 * scale),
               ("at other batch sizes", cases.at_other_batch_sizes(model, images, expected), 1e-5 * scale)]
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


def refused(call, *words):
    """Checks that a call is refused with all these words."""
    try:
        call()
    except ValueError as error:
        assert all(word in str(error) for word in words), error
        return 1
    raise AssertionError("not refused: %s" % (words,))


def check_refusals(module, folder):
    with open(os.path.join(folder, "config.json")) as file:
        config = json.load(file)

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
    copy = os.path.join(ROOT, "copy of an artifact")

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

    for name, value in [("format", "other"), ("version", 3), ("family", "swin")]:
        count += refused(with_config(**{name: value}), "config.json: %s: got %r" % (name, value))
    for name, wrong in [("weights_crc32", None), ("weights_crc32", "0"), ("architecture", None), ("architecture", [])]:
        count += refused(with_config(**{name: wrong}), "config.json: %s: got %r" % (name, wrong))
    for name in ("weights_crc32", "architecture"):
        rest = {own: value for own, value in config.items() if own != name}
        count += refused(whole(rest), "config.json: %s: got 'none'" % name)
    count += refused(whole([]), "config.json: got []")
    other = dict(config["architecture"], classes=3)
    count += refused(with_config(architecture=other), "model.safetensors", "of another network", "head.weight")
    for size in (0, 100):
        count += refused(with_file("model.safetensors", lambda file: file.truncate(size)), "checksum: got")
    count += refused(with_file("config.json", lambda file: file.truncate(20)), "config.json: got no JSON")
    # Without an argument, the folder of the file itself.
    damaged(lambda: None)
    assert loader(copy).load_subnet().head.out_features == config["architecture"]["classes"]
    print("load_subnet.py: %d wrong artifacts are refused" % count)


with torch.inference_mode():
    plain = os.path.join(ROOT, "plain-f32")
    compare_with_timm(loader(plain))
    check_refusals(loader(plain), plain)
    check_reset_classifier(loader(plain))
    failed = cases.run("load_subnet.py in timm " + timm.__version__, ROOT, compare)
sys.exit(failed)
