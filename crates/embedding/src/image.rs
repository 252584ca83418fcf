//! Images to vectors: decode, resize the shorter side (bicubic), center crop, scale, run.

use std::io::{self, BufRead, Cursor, Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits, RgbImage};
use ndarray::Array;

use crate::config::ImageConfig;
use kernels::statistics::normalize;
use onnx::session::{RunMemory, Session};
use runtime::error::{Error, Result};
use runtime::parallel;
use runtime::progress::{Progress, Run};

/// Maximum size of a file in bytes.
const MAX_BYTES: usize = 128 << 20;
/// Maximum number of pixels; a small file can have many. Decoding some JPEG and WebP files, and resizing, cannot be cancelled: with this limit
/// they take a tenth of a second.
const MAX_PIXELS: u64 = 25_000_000;
/// Maximum memory for pixels while decoding: 16 bits for each of four channels, twice.
const MAX_DECODED: u64 = 400_000_000;
/// Bytes of a file between two checks for cancel requests; they may contain a thousand times as many pixels.
const READ_AT_ONCE: usize = 1024;

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
        let stop = AtomicBool::new(false);
        let request_stop = || stop.store(true, Ordering::Relaxed);
        let pixels = parallel::watched(progress, request_stop, || pixels(&decode(file, &stop)?, config, &stop))?;
        self.embed_pixels(pixels, progress)
    }

    /// The vector of an image that is already decoded, cropped and scaled: `[3, crop, crop]`.
    pub fn embed_pixels(&mut self, pixels: Vec<f32>, progress: &dyn Progress) -> Result<Vec<f32>> {
        let config = &self.config;
        let side = config.crop as usize;
        let input = Array::from_shape_vec((1, 3, side, side), pixels)?;
        let begun = Instant::now();
        let outputs = self.session.run(
            vec![(config.input.as_str(), input.into())],
            &[&config.output],
            RunMemory::Keep,
            progress,
        )?;
        progress.ran(&Run {
            model: &self.session.name,
            provider: self.session.provider.name(),
            rows: 1,
            tokens: None,
            took: begun.elapsed(),
        });
        let output = outputs
            .into_iter()
            .next()
            .ok_or_else(|| Error::Internal("model did not return exactly one output".into()))?;
        let (mut vector, _) = output.into_rows(1)?.into_raw_vec_and_offset();
        if self.config.normalize {
            normalize(&mut vector);
        }
        Ok(vector)
    }
}

/// A reader that fails on a cancel request.
struct Stoppable<'a> {
    file: Cursor<&'a [u8]>,
    stop: &'a AtomicBool,
}

impl Read for Stoppable<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let part = self.fill_buf()?;
        let n = part.len().min(to.len());
        to[..n].copy_from_slice(&part[..n]);
        self.consume(n);
        Ok(n)
    }
}

impl BufRead for Stoppable<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        check(self.stop).map_err(io::Error::other)?;
        let rest = self.file.fill_buf()?;
        Ok(&rest[..rest.len().min(READ_AT_ONCE)])
    }

    fn consume(&mut self, n: usize) {
        self.file.consume(n);
    }
}

impl Seek for Stoppable<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

fn check(stop: &AtomicBool) -> Result<()> {
    if stop.load(Ordering::Relaxed) { Err(Error::Canceled) } else { Ok(()) }
}

fn decode(file: &[u8], stop: &AtomicBool) -> Result<DynamicImage> {
    let too_large = |needed: String, limit: String| Error::TooLarge {
        what: "image".into(),
        needed,
        limit,
        hint: "Scale the image down: models use a few hundred pixels a side.".into(),
    };
    if file.len() > MAX_BYTES {
        return Err(too_large(format!("{} bytes", file.len()), format!("{MAX_BYTES} bytes")));
    }
    let failed = |e: image::ImageError| Error::NotImage(e.to_string());
    let reader = ImageReader::new(Stoppable { file: Cursor::new(file), stop });
    let reader = reader.with_guessed_format().map_err(|e| Error::NotImage(e.to_string()))?;
    let mut decoder = reader.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels > MAX_PIXELS {
        return Err(too_large(format!("{width} × {height} pixels"), format!("{MAX_PIXELS} pixels")));
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODED);
    decoder.set_limits(limits).map_err(failed)?;
    DynamicImage::from_decoder(decoder).map_err(failed)
}

/// Channels first, `[3, crop, crop]`, each value `(0…255 − mean) / std`.
fn pixels(image: &DynamicImage, config: &ImageConfig, stop: &AtomicBool) -> Result<Vec<f32>> {
    check(stop)?;
    let rgb = image.to_rgb8();
    check(stop)?;
    let (width, height) = rgb.dimensions();
    let shorter = width.min(height).max(1);
    let scale =
        |side: u32| ((f64::from(side) * f64::from(config.resize) / f64::from(shorter)).round() as u32).max(config.crop);
    // CatmullRom is the bicubic kernel with a = −0.5, as the imaging libraries that models are trained with use it.
    let resized = image::imageops::resize(&rgb, scale(width), scale(height), FilterType::CatmullRom);
    Ok(centre(&resized, config))
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

    static GO_ON: AtomicBool = AtomicBool::new(false);

    fn png(width: u32, height: u32, colour: [u8; 3]) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        RgbImage::from_pixel(width, height, image::Rgb(colour)).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn a_plain_image_keeps_its_colour_at_any_shape() {
        let config = ImageConfig { mean: [127.0; 3], std: [128.0; 3], ..Default::default() };
        for (width, height) in [(1, 1), (1, 500), (640, 480), (224, 224)] {
            let values = pixels(&decode(&png(width, height, [255, 127, 0]), &GO_ON).unwrap(), &config, &GO_ON).unwrap();
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
            assert!(matches!(decode(bytes, &GO_ON), Err(Error::NotImage(_))));
        }
    }

    #[test]
    fn a_picture_of_too_many_pixels_is_refused_by_its_size() {
        let strip = png(50_001, 500, [0, 0, 0]);
        let error = decode(&strip, &GO_ON).unwrap_err();
        assert_eq!(error.to_string(), "image needs 50001 × 500 pixels, but the limit is 25000000 pixels");
    }

    #[test]
    fn decoding_stops_when_told() {
        let whole = png(3000, 3000, [1, 2, 3]);
        let stop = AtomicBool::new(true);
        assert!(decode(&whole, &stop).is_err());
        assert!(matches!(pixels(&DynamicImage::new_rgb8(9, 9), &ImageConfig::default(), &stop), Err(Error::Canceled)));
    }
}
