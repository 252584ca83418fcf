//! Images to embed.

use std::path::Path;

use image::RgbImage;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::Result;

/// Pixels of a side.
const SIZE: u32 = 320;

/// Squares of one colour, in pixels: noise would be the same to a network everywhere.
const SQUARE: u32 = 40;

/// Writes `count` PNG images with squares of drawn colours to a folder.
pub fn write(folder: &Path, count: usize, seed: u64) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut rng = StdRng::seed_from_u64(seed);
    for number in 0..count {
        drawn(&mut rng).save(folder.join(format!("{number}.png")))?;
    }
    Ok(())
}

fn drawn(rng: &mut StdRng) -> RgbImage {
    let side = SIZE / SQUARE;
    let colours: Vec<[u8; 3]> = (0..side * side).map(|_| rng.random()).collect();
    RgbImage::from_fn(SIZE, SIZE, |x, y| image::Rgb(colours[(y / SQUARE * side + x / SQUARE) as usize]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_differ_and_are_the_same_again() {
        let mut rng = StdRng::seed_from_u64(1);
        let first = drawn(&mut rng);
        assert_ne!(first, drawn(&mut rng));
        assert_eq!(first, drawn(&mut StdRng::seed_from_u64(1)));
    }
}
