//! Owns going through blocks of an image once, past its cache: what is not asked for again
//! would only take the place of what is. Some blocks are read at a time.

use std::sync::Arc;

use super::image_state::Image;
use crate::image::ImageError;
use crate::image::ahead::Ahead;
use crate::image::block::Block;

/// Where somebody is who goes through an image.
#[derive(Debug, Default)]
pub(crate) struct Passage {
    /// The number of the image that the rest is of.
    image: u64,
    ahead: Ahead,
    /// The block that was read last, and its place: two parts of a scan may share one.
    last: Option<(usize, Arc<Block>)>,
}

impl Passage {
    /// The block at this place. Mostly it is that of the last time, or one behind it.
    ///
    /// # Errors
    /// As `Image::read`, also for a block that follows.
    pub(super) fn read(&mut self, image: &Image, at: usize) -> Result<Arc<Block>, ImageError> {
        let before = self.last.as_ref().map(|(place, _)| *place);
        if self.image != image.number || before.is_some_and(|before| at < before) {
            *self = Self::default();
            self.image = image.number;
        }
        if let Some((place, block)) = &self.last
            && *place == at
        {
            return Ok(Arc::clone(block));
        }
        let metas = &image.manifest.blocks;
        let block = Arc::new(self.ahead.take(image.blocks()?, metas, at)?);
        self.last = Some((at, Arc::clone(&block)));
        Ok(block)
    }
}
