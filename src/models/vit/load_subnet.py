# The family ViT, as a timm VisionTransformer.

from timm.layers import AttentionPoolLatent, GluMlp, LayerNorm, Mlp, QuickGELU, RmsNorm
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import Block, VisionTransformer
from torch.nn import functional as F

FAMILY = "vit"
# Options of the architecture, with what is meant where one is absent; and those that never are, with their types.
OPTIONS = {"layer_scale": None, "pooling": "class_token", "class_token": True, "registers": 0,
           "positions": "all_tokens", "patch_bias": True, "pre_norm": False, "norm": "layer", "activation": "gelu",
           "mlp": "plain", "qkv_bias": "full", "qk_norm": None, "head_bias": True, "rope": None,
           "image_width": None, "patch_width": None}
SIZES = {"image_size": int, "patch_size": int, "in_channels": int, "classes": int, "embed_dim": int,
         "blocks": list, "distilled": bool, "norm_eps": NUMBER, "drop_path": NUMBER}
POOL_SIZES = {"sizes": dict, "latent_dim": int, "embed_dim": int}
ROPES = {"grid": {"base": NUMBER, "reference": NUMBER}, "normalised": {"base": NUMBER}}
NORMS = {"layer": LayerNorm, "rms": RmsNorm}
ACTIVATIONS = {"gelu": nn.GELU, "gelu_tanh": partial(nn.GELU, approximate="tanh"), "quick_gelu": QuickGELU,
               "relu": nn.ReLU}
POOLINGS = {"class_token": ("token", False), "class_and_mean": ("token", False), "tokens": ("", False),
            "mean": ("avg", False), "mean_norm": ("avg", True), "attention": ("map", False)}  # global_pool, fc_norm


def build(architecture):
    """Returns a network of the architecture of config.json, with random weights."""
    check_names("option ", architecture, SIZES, OPTIONS)
    options = dict(OPTIONS, **architecture)
    given = {name: int for name in ("image_width", "patch_width") if options[name] is not None}
    check_names("option ", options, dict(given, registers=int), may_be_zero=("registers",))
    name, pool = kind(options["pooling"])
    global_pool, fc_norm = choice(POOLINGS, "pooling", name)
    positions = choice(("all_tokens", "patches", "none"), "positions", options["positions"])
    if options["distilled"] and (options["registers"] or positions == "none"):
        raise SubnetError("options registers, positions", "%r, %r" % (options["registers"], positions),
                          "none that timm's VisionTransformerDistilled cannot hold", "use the TorchScript export")
    cls = VisionTransformerDistilled if options["distilled"] else Vit
    style, blocks = Style(options), options["blocks"]
    rates = drop_paths(options["drop_path"], len(blocks))
    made = iter([style.block("blocks.%d" % at, sizes, rates[at]) for at, sizes in enumerate(blocks)])
    model = cls(img_size=style.image, patch_size=style.patch, in_chans=options["in_channels"], num_heads=1,
                num_classes=options["classes"], global_pool=global_pool, fc_norm=fc_norm, embed_dim=style.width,
                depth=len(blocks), class_token=options["class_token"], reg_tokens=options["registers"],
                no_embed_class=positions == "patches", pos_embed="none" if positions == "none" else "learn",
                pre_norm=options["pre_norm"], norm_layer=style.norm, act_layer=style.act,
                block_fn=lambda **_: next(made), weight_init="skip")
    if options["distilled"] and positions == "patches":
        model.pos_embed = nn.Parameter(torch.zeros(1, model.patch_embed.num_patches, style.width))
    model.patch_embed.proj = nn.Conv2d(options["in_channels"], style.width, kernel_size=style.patch,
                                       stride=style.patch, bias=options["patch_bias"])
    model.class_and_mean = name == "class_and_mean"
    if global_pool == "map":
        model.attn_pool = SubnetPool(style, pool)
    model.head = nn.Linear(pooled_width(model), options["classes"], bias=options["head_bias"])
    return model


def pooled_width(model):
    """Returns the number of features that the head reads."""
    pool = model.attn_pool
    return model.embed_dim * (2 if model.class_and_mean else 1) if pool is None else pool.mlp.fc2.out_features


def kind(value):
    """Returns the name of a value of an option, and what else it has."""
    return next(iter(value.items())) if isinstance(value, dict) and value else (value, None)


def choice(known, option, value):
    """Returns the entry of a value of an option, and refuses a value that is not known."""
    if not isinstance(value, str) or value not in known:
        raise SubnetError("option " + option, repr(value), " or ".join(map(repr, known)))
    return known[value] if isinstance(known, dict) else value


class Style:
    """What the blocks of a network have in common."""
    def __init__(self, options):
        norm = {name: partial(kind, eps=options["norm_eps"]) for name, kind in NORMS.items()}
        self.width, self.layer_scale = options["embed_dim"], options["layer_scale"]
        self.norm = choice(norm, "norm", options["norm"])
        self.qk_norm = options["qk_norm"] and choice(norm, "qk_norm", options["qk_norm"])
        self.act = choice(ACTIVATIONS, "activation", options["activation"])
        self.mlp_kind = choice(("plain", "swi_glu"), "mlp", options["mlp"])
        self.qkv_bias = choice(("full", "none", "query_value"), "qkv_bias", options["qkv_bias"])
        self.patch = (options["patch_size"], options["patch_width"] or options["patch_size"])
        self.image = (options["image_size"], options["image_width"] or options["image_size"])
        if any(side % patch for side, patch in zip(self.image, self.patch)):
            raise SubnetError("option image_size", "%r" % (self.image,), "multiples of patches of %r" % (self.patch,))
        prefix = int(options["class_token"]) + int(options["distilled"]) + options["registers"]
        grid = [side // patch for side, patch in zip(self.image, self.patch)]
        self.rope = options["rope"] and coordinates(options["rope"], prefix, grid)

    def block(self, name, sizes, drop_path):
        """Returns the block of these sizes."""
        check_block(name, sizes)
        # timm has no LayerScale where its initial value is 0; the weights replace that value.
        scale = None if self.layer_scale is None else self.layer_scale or 1.0
        block = Block(self.width, num_heads=1, mlp_ratio=1.0, init_values=scale, drop_path=drop_path,
                      norm_layer=self.norm, act_layer=self.act)
        return with_branches(block, self.width, self.attention(sizes) if sizes["heads"] else None,
                             self.mlp(self.width, sizes["hidden_dim"]) if sizes["hidden_dim"] else None)

    def attention(self, sizes):
        """Returns timm's attention, or a subclass with the options that it has not."""
        own = self.rope is not None or self.qkv_bias == "query_value" or sizes["scale_dim"] != sizes["head_dim"]
        arguments = dict(num_heads=sizes["heads"], attn_head_dim=sizes["head_dim"], norm_layer=self.qk_norm,
                         qkv_bias=self.qkv_bias == "full", qk_norm=self.qk_norm is not None)
        return SubnetAttention(self, sizes, **arguments) if own else Attention(self.width, **arguments)

    def mlp(self, width, hidden, plain=False):
        """Returns the MLP of a block, or that of attention pooling, which is always plain."""
        gated = partial(GluMlp, width, 2 * hidden, act_layer=nn.SiLU, gate_last=False)
        return gated() if self.mlp_kind == "swi_glu" and not plain else Mlp(width, hidden, act_layer=self.act)


def coordinates(rope, prefix, grid):
    """Returns the coordinates (y, x) of all tokens, [tokens, 2]: 0 for those before the patches."""
    name, own = kind(rope)
    check_names("option rope.%s." % name, own, choice(ROPES, "rope", name), ())
    axes = [torch.arange(side, dtype=torch.float32) for side in grid]
    axes = [at / len(at) * own["reference"] if name == "grid" else 2.0 * ((at + 0.5) / len(at)) - 1.0 for at in axes]
    return torch.cat([torch.zeros(prefix, 2), torch.cartesian_prod(*axes)])


class SubnetAttention(Attention):
    """timm's Attention with biases of queries and values alone, rotary positions, or a scale of its own. `rope`,
    [2, heads x pairs], has the frequencies of rows and columns of every pair of channels."""
    def __init__(self, style, sizes, **arguments):
        super().__init__(style.width, **arguments)
        self.scale = 1.0 / math.sqrt(sizes["scale_dim"])
        apart = style.qkv_bias == "query_value"
        self.q_bias, self.v_bias = (nn.Parameter(torch.zeros(self.attn_dim)) if apart else None for _ in "qv")
        # Coordinates are no buffer: they, and angles, are f32, frequencies of the type of the weights, as in Rust.
        self.coordinates = style.rope
        self.register_buffer("rope", None if style.rope is None else torch.zeros(2, self.attn_dim // 2))

    def forward(self, x, attn_mask=None, is_causal=False):
        batch, tokens, _ = x.shape
        qkv = self.qkv(x)
        if self.q_bias is not None:
            qkv = qkv + torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        q, k, v = qkv.reshape(batch, tokens, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = self.q_norm(q), self.k_norm(k)
        if self.coordinates is not None:
            q, k = self.rotated(q), self.rotated(k)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask, is_causal=is_causal, scale=self.scale)
        return self.proj(x.transpose(1, 2).reshape(batch, tokens, self.attn_dim))

    def rotated(self, x):
        """Rotates the pairs of channels of queries or keys, [B, heads, tokens, channels]."""
        place, frequencies = self.coordinates.to(x.device), self.rope.float()
        angles = place[:, :1] * frequencies[0] + place[:, 1:] * frequencies[1]
        angles = angles.view(len(place), self.num_heads, -1, 1).transpose(0, 1)
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        a, b = x.unflatten(-1, (-1, 2)).split(1, dim=-1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).flatten(-2)


class SubnetPool(AttentionPoolLatent):
    """timm's attention pooling with a width of its own for latent, heads and pooled features."""
    def __init__(self, style, pool):
        check_names("option pooling.attention.", pool, POOL_SIZES, ())
        check_names("option pooling.attention.sizes.", pool["sizes"], BLOCK_SIZES, ())
        sizes, width, inner = pool["sizes"], pool["embed_dim"], pool["sizes"]["heads"] * pool["sizes"]["head_dim"]
        super().__init__(inner, out_features=width, num_heads=sizes["heads"], norm_layer=style.norm)
        self.scale, self.inner = 1.0 / math.sqrt(sizes["scale_dim"]), inner
        self.latent = nn.Parameter(torch.zeros(1, 1, pool["latent_dim"]))
        self.q, self.kv = nn.Linear(pool["latent_dim"], inner), nn.Linear(style.width, 2 * inner)
        self.mlp = style.mlp(width, sizes["hidden_dim"], plain=True)

    def forward(self, x, attn_mask=None):
        batch, tokens, _ = x.shape
        q = self.q(self.latent).view(1, 1, self.num_heads, self.head_dim).transpose(1, 2).expand(batch, -1, -1, -1)
        k, v = self.kv(x).reshape(batch, tokens, 2, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask, scale=self.scale)
        x = self.proj(x.reshape(batch, self.inner))
        return x + self.mlp(self.norm(x))


class Vit(VisionTransformer):
    """A VisionTransformer whose head may read class token and mean of the patches (DINOv2's linear head), and whose
    tokens before the patches stay where there is no table of positions (timm before 1.0.31)."""
    class_and_mean = False

    def _pos_embed(self, x):
        if self.pos_embed is not None:
            return super()._pos_embed(x)
        prefix = [token for token in (self.cls_token, self.reg_token) if token is not None]
        return torch.cat([token.expand(x.shape[0], -1, -1) for token in prefix] + [x], dim=1)

    def pool(self, x, pool_type=None):
        if not self.class_and_mean or pool_type is not None:
            return super().pool(x, pool_type)
        return torch.cat([x[:, 0], x[:, self.num_prefix_tokens:].mean(dim=1)], dim=-1)

    def reset_classifier(self, num_classes, global_pool=None):
        """Puts a new head on what is pooled; timm's own reads features of the embedding's width."""
        super().reset_classifier(num_classes, global_pool)
        self.class_and_mean = self.class_and_mean and global_pool is None
        if num_classes > 0:
            self.head = nn.Linear(pooled_width(self), num_classes).to(self.patch_embed.proj.weight).train(self.training)
