//! IDX images as a data set: grey, one channel.

use super::IdxImages;
use crate::data::image_folder::no_such_index;
use crate::data::{Dataset, Image, LabelledImage};
use crate::Result;

impl Dataset for IdxImages {
    fn len(&self) -> usize {
        self.count()
    }

    fn classes(&self) -> usize {
        self.classes()
    }

    fn channels(&self) -> usize {
        1
    }

    fn name(&self, index: usize) -> String {
        format!("image {index} of {}", self.labels_path.display())
    }

    fn load(&self, index: usize) -> Result<LabelledImage> {
        let label = self.labels().get(index).ok_or_else(|| no_such_index(index, self.count()))?;
        let size = self.height() * self.width();
        let pixels = self.images().values[index * size..][..size].to_vec();
        let image = Image::new(self.width(), self.height(), 1, pixels)?;
        Ok(LabelledImage { image, class: usize::from(*label) })
    }
}
