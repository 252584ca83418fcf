//! Images to vectors: decode, resize the shorter side (bicubic), cut the middle, scale, run.

use std::io::Cursor;
use std::time::Instant;

use image::imageops::FilterType;
use image::{DynamicImage, ImageReader, Limits, RgbImage};

use crate::embedding::config::ImageConfig;
use crate::embedding::vector::normalize;
use crate::error::{Error, Result};
use crate::onnx::session::{RunMemory, Session};
use crate::onnx::tensor::Tensor;
use crate::parallel;
use crate::progress::{Progress, Run};

/// A small file can claim to be a huge picture: decoding stops at this many bytes of pixels, and at this side length.
const MAX_DECODED_BYTES: u64 = 512 << 20;
const MAX_SIDE: u32 = 32_768;

pub struct ImageEmbedder {
    session: Session,
    pub config: ImageConfig,
}

impl ImageEmbedder {
    pub fn new(session: Session, config: ImageConfig) -> Self {
        Self { session, config }
    }

    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The vector of one PNG, JPEG or WebP file.
    pub fn embed(&mut self, file: &[u8], progress: &dyn Progress) -> Result<Vec<f32>> {
        let config = &self.config;
        // Decoding cannot be interrupted; the limits keep it short, and the watcher returns as soon as it ends.
        let pixels = parallel::watched(progress, || (), || Ok(pixels(&decode(file)?, config)))?;
        self.embed_pixels(pixels, progress)
    }

    /// The vector of one picture that is decoded, cut and scaled already: `[3, crop, crop]`.
    pub fn embed_pixels(&mut self, pixels: Vec<f32>, progress: &dyn Progress) -> Result<Vec<f32>> {
        let config = &self.config;
        let side = config.crop as usize;
        let input = Tensor::f32([1, 3, side, side], pixels);
        let begun = Instant::now();
        let outputs =
            self.session.run(vec![(config.input.as_str(), input)], &[&config.output], RunMemory::Keep, progress)?;
        progress.ran(&Run {
            model: &self.session.name,
            provider: self.session.provider.name(),
            rows: 1,
            tokens: None,
            took: begun.elapsed(),
        });
        let output = outputs.into_iter().next().ok_or_else(|| Error::Internal("one output was asked for".into()))?;
        let (mut vector, _) = output.into_rows(1)?;
        if self.config.normalize {
            normalize(&mut vector);
        }
        Ok(vector)
    }
}

fn decode(file: &[u8]) -> Result<DynamicImage> {
    let mut reader =
        ImageReader::new(Cursor::new(file)).with_guessed_format().map_err(|e| Error::NotImage(e.to_string()))?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    reader.limits(limits);
    reader.decode().map_err(|e| Error::NotImage(e.to_string()))
}

/// Channels first, `[3, crop, crop]`, each value `(0…255 − mean) / std`.
fn pixels(image: &DynamicImage, config: &ImageConfig) -> Vec<f32> {
    let rgb = image.to_rgb8();
    let (width, height) = rgb.dimensions();
    let shorter = width.min(height).max(1);
    let scale =
        |side: u32| ((f64::from(side) * f64::from(config.resize) / f64::from(shorter)).round() as u32).max(config.crop);
    // CatmullRom is the bicubic kernel with a = −0.5, as the imaging libraries that models are trained with use it.
    let resized = image::imageops::resize(&rgb, scale(width), scale(height), FilterType::CatmullRom);
    centre(&resized, config)
}

fn centre(image: &RgbImage, config: &ImageConfig) -> Vec<f32> {
    let side = config.crop;
    let (left, top) = ((image.width() - side) / 2, (image.height() - side) / 2);
    let mut out = Vec::with_capacity(3 * (side * side) as usize);
    for channel in 0..3 {
        for y in 0..side {
            for x in 0..side {
                let value = f32::from(image.get_pixel(left + x, top + y)[channel]);
                out.push((value - config.mean[channel]) / config.std[channel]);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(width: u32, height: u32, colour: [u8; 3]) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        RgbImage::from_pixel(width, height, image::Rgb(colour)).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn a_plain_image_keeps_its_colour_at_any_shape() {
        let config = ImageConfig { mean: [127.0; 3], std: [128.0; 3], ..Default::default() };
        for (width, height) in [(1, 1), (1, 500), (640, 480), (224, 224)] {
            let values = pixels(&decode(&png(width, height, [255, 127, 0])).unwrap(), &config);
            assert_eq!(values.len(), 3 * 224 * 224);
            let plane = 224 * 224;
            assert!(values[..plane].iter().all(|v| *v == 1.0));
            assert!(values[plane..2 * plane].iter().all(|v| *v == 0.0));
            assert!(values[2 * plane..].iter().all(|v| (*v + 127.0 / 128.0).abs() < 1e-6));
        }
    }

    #[test]
    fn what_is_no_image_or_is_cut_short_is_an_error() {
        let whole = png(64, 64, [1, 2, 3]);
        for bytes in [&b""[..], b"not an image", &whole[..whole.len() / 2]] {
            assert!(matches!(decode(bytes), Err(Error::NotImage(_))));
        }
    }
}
