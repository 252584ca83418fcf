//! Images to vectors: decode, resize the shorter side (bicubic), center crop, scale, run.

use std::io::{self, BufRead, Cursor, Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits, RgbImage};
use ndarray::Array;

use crate::config::ImageConfig;
use kernels::statistics::normalize;
use onnx::runner::{Inputs, Runner};
use onnx::session::RunMemory;
use onnx::tensor::Tensor;
use runtime::error::{Error, Result};
use runtime::jobs::Relay;
use runtime::parallel;
use runtime::progress::{Progress, Run};

/// Maximum size of a file in bytes.
const MAX_BYTES: usize = 128 << 20;
/// Maximum number of pixels; a small file can have many. Decoding some JPEG and WebP files, and resizing, cannot be cancelled: with this limit
/// they take a tenth of a second.
const MAX_PIXELS: u64 = 25_000_000;
/// Maximum memory for pixels while decoding: 16 bits for each of four channels, twice.
const MAX_DECODED: u64 = 400_000_000;
/// Files whose pixels are held at a time, some megabytes each.
const FILES_AT_ONCE: usize = 32;
/// Bytes of a file between two checks for cancel requests; they may contain a thousand times as many pixels.
const READ_AT_ONCE: usize = 1024;

pub struct ImageEmbedder {
    runner: Box<dyn Runner>,
    pub config: ImageConfig,
}

impl ImageEmbedder {
    pub fn new(runner: Box<dyn Runner>, config: ImageConfig) -> Self {
        Self { runner, config }
    }

    pub fn runner(&self) -> &dyn Runner {
        &*self.runner
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
        let mut vectors = Vec::new();
        for part in files.chunks(FILES_AT_ONCE) {
            let runs = all_pixels(&self.config, part, threads, progress)?;
            let runs = runs.into_iter().map(|pixels| inputs(&self.config, pixels)).collect::<Result<_>>()?;
            for (outputs, took) in self.runner.run_each(runs, &[&self.config.output], threads, progress)? {
                self.ran(took, progress);
                vectors.push(self.vector(outputs)?);
            }
        }
        Ok(vectors)
    }

    /// The vector of an image that is already decoded, cropped and scaled: `[3, crop, crop]`.
    pub fn embed_pixels(&mut self, pixels: Vec<f32>, progress: &dyn Progress) -> Result<Vec<f32>> {
        let inputs = inputs(&self.config, pixels)?;
        let (outputs, took) = self.runner.run(inputs, &[&self.config.output], RunMemory::Keep, progress)?;
        self.ran(took, progress);
        self.vector(outputs)
    }

    fn ran(&self, took: Duration, progress: &dyn Progress) {
        let (model, provider) = (self.runner.model(), self.runner.provider().name());
        progress.ran(&Run { runs: 1, model, provider, rows: 1, tokens: None, took });
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

/// The pixels of several files, decoded on up to `threads` threads.
fn all_pixels(
    config: &ImageConfig,
    files: &[(&str, &[u8])],
    threads: usize,
    progress: &dyn Progress,
) -> Result<Vec<Vec<f32>>> {
    let relay = Relay::new(progress);
    let stop = || relay.signal.is_stopped();
    let mut decoded = vec![Vec::new(); files.len()];
    let none = || ();
    parallel::for_each_chunk(&mut decoded, 1, threads, &relay, none, |(), number, part| {
        let (id, file) = files[number];
        let pixels = decode(file, &stop).and_then(|image| pixels(&image, config, &stop));
        part[0] = pixels.map_err(|e| named(e, id))?;
        Ok(())
    })?;
    Ok(decoded)
}

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
                out.push(config.scaled(value, channel));
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
