"""Writes the folders of tests/data/import/family: tiny networks of today's ViTs as timm, transformers
and their authors write them, with random images and the outputs of those networks.

Each folder has model.safetensors, config.json as it stands beside such weights (if any), and
expected.safetensors with `images` and `logits`, or `features` or `pooled` features of a network without a
head.

Python 3.11; torch==2.13.0 torchvision timm==1.0.31 transformers==5.24.0 safetensors==0.8.0
timm passes act_layer to a gated MLP, too: SwiGLU needs "silu". Run it in this folder:
python make_family.py
"""

import json
import shutil
import tempfile
from functools import partial
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from timm.layers import LayerNorm, QuickGELU, RmsNorm, SwiGLU, SwiGLUPacked, set_fused_attn
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch.utils.flop_counter import FlopCounterMode

FOLDER = Path(__file__).parent / "family"
IMAGE, PATCH, WIDTH, DEPTH, HEADS, CLASSES, RATIO = 12, 4, 12, 2, 3, 5, 2
SIZES = dict(img_size=IMAGE, patch_size=PATCH, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS,
             num_classes=CLASSES, mlp_ratio=RATIO)
HF_SIZES = dict(image_size=IMAGE, patch_size=PATCH, hidden_size=WIDTH, num_hidden_layers=DEPTH,
                num_attention_heads=HEADS)
MLP = dict(intermediate_size=RATIO * WIDTH)
# Rotary positions of heads of 4 channels have one frequency, 1 for any base: these have 16 channels, and one
# block in float16, so that the files stay small.
ROTARY = dict(SIZES, embed_dim=48, depth=1, mlp_ratio=0.5)
HF_ROTARY = dict(HF_SIZES, hidden_size=48, num_hidden_layers=1, intermediate_size=24)


def randomise(model):
    """Draws all parameters at random: initial zeros and ones would hide errors."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_scale = "norm" in name and name.endswith("weight")
            parameter.copy_((1.0 if is_scale else 0.0) + 0.2 * torch.randn_like(parameter))
    return model.eval()


def rounded(model):
    """Rounds all parameters to values of float16, which the file then holds exactly."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half())
    return model


def halves(state):
    """Parameters in float16."""
    return {name: tensor.half() for name, tensor in state.items()}


def costs(model, width=IMAGE):
    """Multiply-accumulates of one image by torch's counter, and the number of parameters."""
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, IMAGE, width))
    macs = counter.get_total_flops() // 2
    return dict(macs=macs, params=sum(parameter.numel() for parameter in model.parameters()))


def write(name, state, run, config=None, features=False, pooled=False, width=IMAGE):
    """Writes a state dict, a configuration, and what `run` makes of random images."""
    folder = FOLDER / name
    folder.mkdir(parents=True)
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, folder / "model.safetensors")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    images = torch.randn(2, 3, IMAGE, width)
    with torch.no_grad():
        output = run(images)
    key = "features" if features else "pooled" if pooled else "logits"
    save_file({"images": images, key: output.contiguous()}, folder / "expected.safetensors")


def timm_files():
    clip = dict(pre_norm=True, norm_layer=partial(LayerNorm, eps=1e-5))
    cases = {
        "timm_deit3": (dict(no_embed_class=True, init_values=1e-6), None),
        "timm_avg": (dict(global_pool="avg"), None),
        "timm_avg_no_fc_norm": (dict(global_pool="avg", fc_norm=False, act_layer="relu"),
                                dict(global_pool="avg", model_args=dict(act_layer="relu", fc_norm=False))),
        "timm_reg4_gap": (dict(class_token=False, no_embed_class=True, reg_tokens=4, global_pool="avg",
                               init_values=1e-5), None),
        "timm_registers_with_positions": (dict(reg_tokens=2), None),
        "timm_clip_quickgelu": (dict(clip, act_layer="quick_gelu"),
                                dict(architecture="vit_base_patch16_clip_quickgelu_224",
                                     global_pool="token")),
        "timm_dinov2_reg4_swiglu": (dict(reg_tokens=4, no_embed_class=True, init_values=1e-5, mlp_ratio=4,
                                         mlp_layer=SwiGLUPacked, act_layer="silu"), None),
        "timm_qk_norm": (dict(qk_norm=True, qkv_bias=False), None),
        "timm_rms_swiglu": (dict(qk_norm=True, norm_layer=RmsNorm, mlp_layer=SwiGLU,
                                 act_layer="silu", class_token=False, global_pool="avg"), None),
        "timm_siglip": (dict(class_token=False, global_pool="map", act_layer="gelu_tanh"),
                        dict(global_pool="map", model_args=dict(act_layer="gelu_tanh"))),
        "timm_wide_patches": (dict(img_size=(IMAGE, 6), patch_size=(PATCH, 2)), None),
        "timm_gelu_tanh": (dict(act_layer="gelu_tanh"), dict(model_args=dict(act_layer="gelu_tanh"))),
    }
    for name, (arguments, config) in cases.items():
        model = randomise(VisionTransformer(**dict(SIZES, **arguments)))
        if config is not None:
            config = dict(dict(architecture="vit_tiny_patch16_224", num_classes=CLASSES), **config)
        width = model.patch_embed.img_size[1]
        write(name, model.state_dict(), model, config, width=width)
        (FOLDER / name / "costs.json").write_text(json.dumps(costs(model, width)) + "\n")


def eva_files():
    eva02 = dict(ROTARY, swiglu_mlp=True, use_rot_pos_emb=True, ref_feat_shape=(16, 16))
    dinov3 = dict(ROTARY, num_reg_tokens=4, init_values=1e-5, rope_type="dinov3", rope_temperature=100,
                  rope_rotate_half=True, use_rot_pos_emb=True, use_abs_pos_emb=False, use_fc_norm=False,
                  global_pool="token", norm_layer=partial(LayerNorm, eps=1e-5), dynamic_img_size=True)
    image = dict(architecture="vit_small_patch16_dinov3", global_pool="token",
                 model_args=dict(img_size=IMAGE))
    for name, arguments, config in [
        ("timm_eva02", eva02, None),
        ("timm_eva", dict(SIZES), None),
        ("timm_dinov3", dict(dinov3, qkv_bias=False), image),
        ("timm_dinov3_plus_qkvb", dict(dinov3, swiglu_mlp=True, swiglu_align_to=8), image),
    ]:
        model = rounded(randomise(Eva(**arguments)))
        write(name, halves(model.state_dict()), model, config)
        (FOLDER / name / "costs.json").write_text(json.dumps(costs(model)) + "\n")
    for name, gated in [("hf_dinov3", False), ("hf_dinov3_plus", True)]:
        model = rounded(randomise(transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(
            **HF_ROTARY, num_register_tokens=4, use_gated_mlp=gated,
            hidden_act="silu" if gated else "gelu"))))
        state, run, config = run_of(model, lambda output: output.last_hidden_state)
        write(name, halves(state), run, config, features=True)


def saved_by_transformers(model):
    """Returns state dict and configuration as save_pretrained writes them."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        config = json.loads((Path(folder) / "config.json").read_text())
        return load_file(str(Path(folder) / "model.safetensors")), config


def transformers_files():
    dino = dict(HF_SIZES, mlp_ratio=RATIO, num_labels=CLASSES)
    for name, model in [
        ("hf_dinov2", transformers.Dinov2ForImageClassification(transformers.Dinov2Config(**dino))),
        ("hf_dinov2_swiglu", transformers.Dinov2ForImageClassification(
            transformers.Dinov2Config(**dino, use_swiglu_ffn=True))),
        ("hf_dinov2_registers", transformers.Dinov2WithRegistersForImageClassification(
            transformers.Dinov2WithRegistersConfig(**dino))),
    ]:
        write(name, *run_of(randomise(model), lambda output: output.logits))
    model = randomise(transformers.Dinov2Model(transformers.Dinov2Config(**dino)))
    write("hf_dinov2_backbone", *run_of(model, lambda output: output.last_hidden_state), features=True)
    clip = transformers.CLIPVisionConfig(**HF_SIZES, **MLP, projection_dim=CLASSES)
    model = randomise(transformers.CLIPVisionModelWithProjection(clip))
    write("hf_clip", *run_of(model, lambda output: output.image_embeds))
    model = randomise(transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**HF_SIZES, **MLP)))
    write("hf_siglip", *run_of(model, lambda output: output.pooler_output), pooled=True)
    mae = dict(decoder_num_attention_heads=2, decoder_hidden_size=4, decoder_num_hidden_layers=1,
               decoder_intermediate_size=4)
    mae = transformers.ViTMAEConfig(**HF_SIZES, **MLP, **mae, mask_ratio=0.0)
    model = randomise(transformers.ViTMAEForPreTraining(mae))
    in_order = torch.arange((IMAGE // PATCH) ** 2, dtype=torch.float32).expand(2, -1)
    state, _, config = run_of(model, None)
    write("hf_mae", state, lambda images: model.vit(images, noise=in_order).last_hidden_state, config,
          features=True)


def run_of(model, output):
    """State dict, forward pass and configuration of a network of transformers."""
    state, config = saved_by_transformers(model)
    return state, lambda images: output(model(images)), config


def authors_files():
    # OpenAI's CLIP, in the names that timm converts.
    width, rows = WIDTH, (IMAGE // PATCH) ** 2 + 1
    state = {"conv1.weight": (width, 3, PATCH, PATCH), "class_embedding": (width,),
             "positional_embedding": (rows, width), "proj": (width, CLASSES)}
    for norm in ["ln_pre", "ln_post"]:
        state.update({f"{norm}.weight": (width,), f"{norm}.bias": (width,)})
    for block in range(DEPTH):
        name = f"transformer.resblocks.{block}"
        state.update({f"{name}.attn.in_proj_weight": (3 * width, width),
                      f"{name}.attn.in_proj_bias": (3 * width,)})
        for layer, (outputs, inputs) in {"attn.out_proj": (width, width),
                                         "mlp.c_fc": (RATIO * width, width),
                                         "mlp.c_proj": (width, RATIO * width)}.items():
            state.update({f"{name}.{layer}.weight": (outputs, inputs), f"{name}.{layer}.bias": (outputs,)})
        for norm in ["ln_1", "ln_2"]:
            state.update({f"{name}.{norm}.weight": (width,), f"{name}.{norm}.bias": (width,)})
    state = {f"visual.{name}": 0.2 * torch.randn(shape) for name, shape in state.items()}
    model = VisionTransformer(**SIZES, pre_norm=True, norm_layer=partial(LayerNorm, eps=1e-5),
                              act_layer=QuickGELU).eval()
    model.load_state_dict(checkpoint_filter_fn(dict(state), model))
    text = {"text_projection": torch.randn(4, 4), "logit_scale": torch.tensor(1.0),
            "transformer.resblocks.0.mlp.c_fc.weight": torch.randn(4, 4)}
    write("openai_clip", dict(state, **text), model)

    # The authors' DINOv2 with registers: the class token has a position, registers have none.
    arguments = dict(SIZES, num_classes=0, reg_tokens=4, no_embed_class=True, init_values=1e-5,
                     mlp_layer=SwiGLUPacked, act_layer="silu")
    model = randomise(VisionTransformer(**arguments))
    state = {}
    for name, tensor in model.state_dict().items():
        state[name.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3")] = tensor.clone()
    state["register_tokens"] = state.pop("reg_token")
    state["mask_token"] = torch.randn(1, WIDTH)
    state["pos_embed"] = 0.2 * torch.randn(1, rows, WIDTH)
    model.load_state_dict(checkpoint_filter_fn(dict(state), model))
    write("dinov2_registers", state, model.forward_features, features=True)


def larger(name, arguments, run=lambda model: model):
    """Writes what timm's network for larger, rectangular images makes of the weights of a folder."""
    image = (IMAGE + PATCH, IMAGE + 2 * PATCH)
    model = VisionTransformer(**dict(SIZES, **dict(arguments, img_size=image))).eval()
    state = load_file(FOLDER / name / "model.safetensors")
    model.load_state_dict(checkpoint_filter_fn(dict(state), model))
    images = torch.randn(2, 3, *image)
    with torch.no_grad():
        output = run(model)(images)
    save_file({"images": images, "output": output.contiguous()}, FOLDER / name / "larger.safetensors")


def larger_files():
    larger("timm_deit3", dict(no_embed_class=True, init_values=1e-6))
    larger("timm_registers_with_positions", dict(reg_tokens=2))
    dino = dict(num_classes=0, reg_tokens=4, no_embed_class=True, init_values=1e-5,
                mlp_layer=SwiGLUPacked, act_layer="silu")
    larger("dinov2_registers", dino, lambda model: model.forward_features)


if __name__ == "__main__":
    torch.manual_seed(0)
    set_fused_attn(False)  # the counter knows matrix products alone
    shutil.rmtree(FOLDER, ignore_errors=True)
    timm_files()
    transformers_files()
    authors_files()
    eva_files()
    larger_files()
