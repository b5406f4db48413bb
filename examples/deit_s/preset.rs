//! Options to begin with.

use clap::ValueEnum;

/// Options to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// DeiT-S on built-in images: minutes on a CPU.
    Demo,
    /// A small ViT on all of Fashion-MNIST.
    FashionMnist,
    /// DeiT-S on ImageNet, by the paper's schedule.
    Imagenet,
    /// A small Swin on built-in images: minutes on a CPU.
    Swin,
    /// Swin-T on ImageNet, by the same schedule as DeiT-S.
    SwinT,
    /// Swin-S on ImageNet.
    SwinS,
    /// Swin-B on ImageNet.
    SwinB,
}

impl Preset {
    /// The options as TOML.
    pub fn text(self) -> String {
        let imagenet =
            |network| format!("network = \"{network}\"\n{}", include_str!("presets/imagenet.toml"));
        match self {
            Self::Demo => include_str!("presets/demo.toml").into(),
            Self::FashionMnist => include_str!("presets/fashion-mnist.toml").into(),
            Self::Imagenet => imagenet("deit_small"),
            Self::Swin => include_str!("presets/swin.toml").into(),
            Self::SwinT => imagenet("swin_tiny"),
            Self::SwinS => imagenet("swin_small"),
            Self::SwinB => imagenet("swin_base"),
        }
    }
}
