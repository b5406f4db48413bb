# The family Swin, as a timm SwinTransformer.

from timm.layers import Mlp, PatchEmbed
from timm.models.swin_transformer import SwinTransformer, SwinTransformerBlock, SwinTransformerStage

FAMILY = "swin"
# Options of the architecture, and of a stage, with their types.
SIZES = {"image_size": int, "patch_size": int, "in_channels": int, "classes": int, "window_size": int,
         "stages": list, "norm_eps": NUMBER, "drop_path": NUMBER}
STAGE_SIZES = {"embed_dim": int, "blocks": list}


def build(architecture):
    """Returns a network of the architecture of config.json, with random weights."""
    check_names("option ", architecture, SIZES, ())
    stages, patch = architecture["stages"], architecture["patch_size"]
    if not stages:
        raise SubnetError("option stages", "[]", "at least one")
    if architecture["image_size"] % patch:
        raise SubnetError("option image_size", repr(architecture["image_size"]), "a multiple of patches of %d" % patch)
    for at, stage in enumerate(stages):
        check_names("option stages.%d." % at, stage, STAGE_SIZES, ())
    norm = partial(nn.LayerNorm, eps=architecture["norm_eps"])
    widths = [stage["embed_dim"] for stage in stages]
    # timm doubles one width from stage to stage. So this one has a single stage, as wide as the last, without blocks:
    # final norm and head are right. Patches and stages take the place of its own.
    model = SwinTransformer(img_size=architecture["image_size"], patch_size=patch, num_classes=architecture["classes"],
                            in_chans=architecture["in_channels"], embed_dim=widths[-1], depths=(0,), num_heads=(1,),
                            window_size=architecture["window_size"], norm_layer=norm, weight_init="skip")
    model.patch_embed = PatchEmbed(architecture["image_size"], patch, architecture["in_channels"], widths[0],
                                   norm_layer=norm, output_fmt="NHWC")
    rates = iter(drop_paths(architecture["drop_path"], sum(len(stage["blocks"]) for stage in stages)))
    grid, layers = architecture["image_size"] // patch, []
    for at in range(len(stages)):
        grid = grid if at == 0 else (grid + 1) // 2
        layers.append(stage_of(architecture, at, grid, norm, rates))
    model.layers = nn.Sequential(*layers)
    model.embed_dim, model.num_layers = widths[0], len(stages)
    model.feature_info = [dict(num_chs=width, reduction=patch * 2 ** at, module="layers.%d" % at)
                          for at, width in enumerate(widths)]
    # In timm 1.0.31, set_input_size scales these windows.
    model._ref_window_sizes = ((architecture["window_size"],) * 2,) * len(stages)
    return model


def stage_of(architecture, at, grid, norm, rates):
    """Returns stage `at`, whose tokens are a square of side `grid`; `rates` yields the stochastic depth of blocks."""
    width, blocks = architecture["stages"][at]["embed_dim"], architecture["stages"][at]["blocks"]
    before = architecture["stages"][at - 1]["embed_dim"] if at else width
    stage = SwinTransformerStage(before, width, (grid, grid), depth=0, downsample=at > 0, norm_layer=norm)
    # timm 1.0.23 rounds half of an odd grid down here, but its patch merging rounds up.
    stage.depth, stage.output_resolution = len(blocks), (grid, grid)
    stage.blocks = nn.Sequential(*[
        block_of("stages.%d.blocks.%d" % (at, own), sizes, width, drop_path=next(rates), norm_layer=norm,
                 input_resolution=(grid, grid), window_size=architecture["window_size"],
                 shift_size=own % 2 * (architecture["window_size"] // 2))
        for own, sizes in enumerate(blocks)])
    return stage


def block_of(name, sizes, width, **arguments):
    """Returns the block of these sizes."""
    check_block(name, sizes)
    heads, hidden = sizes["heads"], sizes["hidden_dim"]
    cls = SwinTransformerBlock if heads else BlockWithoutAttention
    block = cls(width, num_heads=heads or 1, head_dim=sizes["head_dim"], mlp_ratio=1.0, **arguments)
    if heads and sizes["scale_dim"] != sizes["head_dim"]:
        # timm's fused attention would take the scale of head_dim.
        block.attn.scale, block.attn.fused_attn = 1.0 / math.sqrt(sizes["scale_dim"]), False
    return with_branches(block, width, block.attn if heads else None, Mlp(width, hidden) if hidden else None)


class BlockWithoutAttention(SwinTransformerBlock):
    """timm's block with a removed attention, which needs no windows."""
    def _attn(self, x):
        return self.attn(x)

    def _init_buffers(self):
        """Leaves out the mask of shifted windows."""

    def set_input_size(self, feat_size, window_size, always_partition=None):
        self.input_resolution = feat_size
