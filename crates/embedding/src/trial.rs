//! Inputs for comparing a model's vectors on two devices: short and long texts of several kinds, and drawn images.

use ndarray::Array2;

use crate::config::ImageConfig;
use crate::image::ImageEmbedder;
use crate::text::{Role, TextEmbedder};
use crate::text_graph::Limits;
use runtime::draw::mix;
use runtime::error::Result;
use runtime::memory;
use runtime::progress::Progress;

const TEXTS: [&str; 16] = [
    "a",
    "wireless mouse",
    "women's running shoes, size 38, red",
    "USB-C charging cable 2 m braided",
    "organic green tea, loose leaf, 500 g",
    "iPhone 15 Pro case with MagSafe, matte black",
    "stainless steel water bottle 750ml",
    "replacement brushes for electric toothbrush (pack of 8)",
    "Where is my order? It was due last Tuesday and nobody answers the phone.",
    "12345 67890 3.14159 !?# §",
    "无线鼠标",
    "女士跑步鞋 红色 38码",
    "有机绿茶 散装 500克 礼盒",
    "Kaffeemaschine mit Mahlwerk, 1,8 Liter, Edelstahl",
    "café crème brûlée façon grand-mère",
    "😀🎉 sale up to 70 % off",
];
/// The last text is all of them, so many times.
const REPEATED: usize = 6;

const IMAGES: usize = 4;

/// The vectors of the texts, a row each.
pub fn text_vectors(model: &mut TextEmbedder, limits: Limits, progress: &dyn Progress) -> Result<Array2<f32>> {
    let long = TEXTS.join(" ").repeat(REPEATED);
    let texts: Vec<&str> = TEXTS.into_iter().chain([long.as_str()]).collect();
    model.embed(&texts, Role::Passage, limits, progress)
}

/// The vectors of the images, a row each: stripes of drawn colours, some with noise.
pub fn image_vectors(model: &mut ImageEmbedder, progress: &dyn Progress) -> Result<Array2<f32>> {
    let mut vectors = Vec::new();
    for image in 0..IMAGES {
        vectors.push(model.embed_pixels(pixels(&model.config, image)?, progress)?);
    }
    let dimensions = vectors.first().map_or(0, Vec::len);
    memory::shaped(IMAGES, dimensions, vectors.concat())
}

/// [3, crop, crop], as decoded images are passed.
fn pixels(config: &ImageConfig, image: usize) -> Result<Vec<f32>> {
    let side = config.crop as usize;
    let mut pixels = memory::filled(0f32, 3 * side * side)?;
    for (place, pixel) in pixels.iter_mut().enumerate() {
        let (channel, row, column) = (place / (side * side), place / side % side, place % side);
        let stripe = (row + column * image) * 8 / side.max(1);
        let draw = |of: usize| (mix(of as u64) % 256) as f32;
        let noise = draw(place ^ image << 40) * (image % 2) as f32 / 2.0;
        let value = (draw(stripe * 16 + channel * 4 + image) + noise).min(255.0);
        *pixel = config.scaled(value, channel);
    }
    Ok(pixels)
}
