//! sled as an image, whole and damaged.

use super::*;
use crate::image::suite;

#[test]
fn it_is_an_image() {
    let dir = tempfile::tempdir().unwrap();
    suite::suite(&SledBackend::default(), dir.path());
}
