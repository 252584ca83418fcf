//! Images to vectors: decode, resize the shorter side (bicubic), center crop, scale, run.

use std::io::{self, BufRead, Cursor, Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits, RgbImage};
use ndarray::Array;

use crate::config::ImageConfig;
use kernels::statistics::normalize;
use onnx::lanes::{Inputs, Lanes};
use onnx::session::{RunMemory, Session};
use onnx::tensor::Tensor;
use runtime::error::{Error, Result};
use runtime::jobs::Relay;
use runtime::parallel::{self, locked};
use runtime::progress::{Progress, Run};

/// Maximum size of a file in bytes.
const MAX_BYTES: usize = 128 << 20;
/// Maximum number of pixels; a small file can have many. Decoding some JPEG and WebP files, and resizing, cannot be cancelled: with this limit
/// they take a tenth of a second.
const MAX_PIXELS: u64 = 25_000_000;
/// Maximum memory for pixels while decoding: 16 bits for each of four channels, twice.
const MAX_DECODED: u64 = 400_000_000;
/// Opening a lane takes as long as running an image or two.
const MIN_FILES_PER_LANE: usize = 8;
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
        let stopped = AtomicBool::new(false);
        let stop = || stopped.load(Ordering::Relaxed);
        let request_stop = || stopped.store(true, Ordering::Relaxed);
        let pixels = parallel::watched(progress, request_stop, || pixels(&decode(file, &stop)?, config, &stop))?;
        self.embed_pixels(pixels, progress)
    }

    /// The vectors of several files, in their order, decoded and run on up to `threads` threads. Each has an id, which errors name.
    pub fn embed_all(
        &mut self,
        files: &[(&str, &[u8])],
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Vec<Vec<f32>>> {
        let lanes = match threads.min(files.len() / MIN_FILES_PER_LANE) {
            0 | 1 => None,
            lanes => Lanes::open(&self.session, lanes, progress)?,
        };
        let Some(lanes) = lanes else {
            return files.iter().map(|(id, file)| self.embed(file, progress).map_err(|e| named(e, id))).collect();
        };
        let relay = Relay::new(progress);
        let stop = || relay.signal.is_stopped();
        let begun = Instant::now();
        let results = Mutex::new(vec![(Vec::new(), Duration::ZERO); files.len()]);
        lanes.run(
            files.len(),
            &[&self.config.output],
            &relay,
            |number| {
                let (id, file) = files[number];
                let pixels = decode(file, &stop).and_then(|image| pixels(&image, &self.config, &stop));
                let inputs = inputs(&self.config, pixels.map_err(|e| named(e, id))?)?;
                locked(&results)[number].1 = begun.elapsed();
                Ok(inputs)
            },
            |number, outputs| {
                let vector = self.vector(outputs)?;
                let (result, took) = &mut locked(&results)[number];
                (*result, *took) = (vector, begun.elapsed() - *took);
                Ok(())
            },
        )?;
        let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.iter().for_each(|(_, took)| self.ran(*took, progress));
        Ok(results.into_iter().map(|(vector, _)| vector).collect())
    }

    /// The vector of an image that is already decoded, cropped and scaled: `[3, crop, crop]`.
    pub fn embed_pixels(&mut self, pixels: Vec<f32>, progress: &dyn Progress) -> Result<Vec<f32>> {
        let begun = Instant::now();
        let outputs =
            self.session.run(inputs(&self.config, pixels)?, &[&self.config.output], RunMemory::Keep, progress)?;
        self.ran(begun.elapsed(), progress);
        self.vector(outputs)
    }

    fn ran(&self, took: Duration, progress: &dyn Progress) {
        let (model, provider) = (self.session.name.as_str(), self.session.provider.name());
        progress.ran(&Run { model, provider, rows: 1, tokens: None, took });
    }

    fn vector(&self, outputs: Vec<Tensor>) -> Result<Vec<f32>> {
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

/// Whether decoding should stop.
type Stop<'a> = &'a (dyn Fn() -> bool + Sync);

fn inputs(config: &ImageConfig, pixels: Vec<f32>) -> Result<Inputs<'_>> {
    let side = config.crop as usize;
    let input = Array::from_shape_vec((1, 3, side, side), pixels)?;
    Ok(vec![(config.input.as_str(), input.into())])
}

/// The error of the image of a row.
fn named(error: Error, id: &str) -> Error {
    match error {
        Error::NotImage(reason) => Error::NotImage(format!("image with id \"{id}\": {reason}")),
        Error::TooLarge { needed, limit, hint, .. } => {
            Error::TooLarge { what: format!("image with id \"{id}\""), needed, limit, hint }
        }
        other => other,
    }
}

/// A reader that fails on a cancel request.
struct Stoppable<'a> {
    file: Cursor<&'a [u8]>,
    stop: Stop<'a>,
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

fn check(stop: Stop) -> Result<()> {
    if stop() { Err(Error::Canceled) } else { Ok(()) }
}

fn decode(file: &[u8], stop: Stop) -> Result<DynamicImage> {
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
fn pixels(image: &DynamicImage, config: &ImageConfig, stop: Stop) -> Result<Vec<f32>> {
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

    fn go_on() -> bool {
        false
    }

    fn png(width: u32, height: u32, colour: [u8; 3]) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        RgbImage::from_pixel(width, height, image::Rgb(colour)).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn a_plain_image_keeps_its_colour_at_any_shape() {
        let config = ImageConfig { mean: [127.0; 3], std: [128.0; 3], ..Default::default() };
        for (width, height) in [(1, 1), (1, 500), (640, 480), (224, 224)] {
            let values = pixels(&decode(&png(width, height, [255, 127, 0]), &go_on).unwrap(), &config, &go_on).unwrap();
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
            assert!(matches!(decode(bytes, &go_on), Err(Error::NotImage(_))));
        }
    }

    #[test]
    fn a_picture_of_too_many_pixels_is_refused_by_its_size() {
        let strip = png(50_001, 500, [0, 0, 0]);
        let error = decode(&strip, &go_on).unwrap_err();
        assert_eq!(error.to_string(), "image needs 50001 × 500 pixels, but the limit is 25000000 pixels");
    }

    #[test]
    fn decoding_stops_when_told() {
        let whole = png(3000, 3000, [1, 2, 3]);
        let stop = || true;
        assert!(decode(&whole, &stop).is_err());
        assert!(matches!(pixels(&DynamicImage::new_rgb8(9, 9), &ImageConfig::default(), &stop), Err(Error::Canceled)));
    }
}
