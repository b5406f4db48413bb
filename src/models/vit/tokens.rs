//! Image, patches and tokens of a ViT.

use super::{Pooling, PositionEmbedding, VitConfig};

impl VitConfig {
    /// Returns height and width of the image, in pixels.
    pub fn image(&self) -> [i64; 2] {
        [self.image_size, self.image_width.unwrap_or(self.image_size)]
    }

    /// Returns height and width of a patch, in pixels.
    pub fn patch(&self) -> [i64; 2] {
        [self.patch_size, self.patch_width.unwrap_or(self.patch_size)]
    }

    /// Returns channels, height and width of the image.
    pub fn input_shape(&self) -> [i64; 3] {
        let [height, width] = self.image();
        [self.in_channels, height, width]
    }

    /// Returns rows and columns of the grid of patches.
    pub fn grid_size(&self) -> [i64; 2] {
        let ([height, width], patch) = (self.image(), self.patch());
        // `check` refuses a patch of 0; grid and cost must not panic without it.
        [height / patch[0].max(1), width / patch[1].max(1)]
    }

    /// Returns the rows of the grid of patches: the patches along a side of a square image.
    pub fn grid(&self) -> i64 {
        self.grid_size()[0]
    }

    /// Returns the variables of the tokens before the patches, with their numbers of tokens, in order.
    pub(super) fn prefix(&self) -> Vec<(&'static str, i64)> {
        let all = [
            ("cls_token", i64::from(self.class_token)),
            ("dist_token", i64::from(self.distilled)),
            ("reg_token", self.registers),
        ];
        all.into_iter().filter(|(_, count)| *count > 0).collect()
    }

    /// Returns the number of tokens before the patches: class token, distillation token, registers.
    pub fn prefix_tokens(&self) -> i64 {
        self.prefix().iter().fold(0, |all, (_, count)| all.saturating_add(*count))
    }

    /// Returns the columns of the head's weight.
    pub(super) fn head_columns(&self) -> i64 {
        match self.pooling {
            Pooling::Attention(pool) => pool.embed_dim,
            pooling => self.embed_dim.saturating_mul(pooling.parts()),
        }
    }

    /// Returns the number of patches.
    pub fn patches(&self) -> i64 {
        let [rows, columns] = self.grid_size();
        rows.saturating_mul(columns)
    }

    /// Returns the number of all tokens.
    pub fn tokens(&self) -> i64 {
        self.patches().saturating_add(self.prefix_tokens())
    }

    /// Returns the rows of the table of absolute positions, if there is one.
    pub fn position_rows(&self) -> Option<i64> {
        match self.positions {
            PositionEmbedding::AllTokens => Some(self.tokens()),
            PositionEmbedding::Patches => Some(self.patches()),
            PositionEmbedding::None => None,
        }
    }
}
