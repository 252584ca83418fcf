//! Random vectors of a fixed length, in the orthant of what they are added to (Yu et al. 2022, eq. 7).

use ndarray::ArrayViewMut2;

use kernels::matrix::flat_mut;
use kernels::vector::{Vector, dispatch};

/// 24 random bits as a float from 0 to 1, of a row's key and a place: Wellons' `lowbias32` of a Weyl sequence.
#[inline(always)]
fn uniform(key: u32, place: u32) -> f32 {
    let mut x = key.wrapping_add(place.wrapping_mul(0x9e37_79b9));
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^= x >> 16;
    // Half a step above, so that no row is all zeros. As a signed number, which every processor converts at once.
    ((x >> 8) as i32 as f32 + 0.5) * (1.0 / (1 << 24) as f32)
}

#[expect(clippy::extra_unused_type_parameters, reason = "the compiler chooses the registers")]
#[inline(always)]
unsafe fn add_body<V: Vector, const TILE: usize>(rows: &mut [f32], width: usize, d: usize, length: f32, keys: &[u32]) {
    assert!(d <= width && rows.len() == width * keys.len());
    let mut random = vec![0f32; width.next_multiple_of(16)];
    for (row, &key) in rows.chunks_exact_mut(width).zip(keys) {
        for (place, x) in random[..d].iter_mut().enumerate() {
            *x = uniform(key, place as u32);
        }
        let mut squares = [0f32; 16];
        for lanes in random.chunks_exact(16) {
            squares.iter_mut().zip(lanes).for_each(|(sum, x)| *sum += x * x);
        }
        let scale = length / squares.iter().sum::<f32>().sqrt();
        for (to, x) in row[..d].iter_mut().zip(&random) {
            *to += scale * x * if *to > 0.0 { 1.0 } else { -f32::from(*to < 0.0) };
        }
    }
}
dispatch! {
    fn add_to_slice(rows: &mut [f32], width: usize, d: usize, length: f32, keys: &[u32]) = add_body
}

/// Adds to the first `d` floats of each of `rows` [keys, _] a vector of `length` with the same signs.
pub fn add(rows: ArrayViewMut2<f32>, d: usize, length: f32, keys: &[u32]) {
    let width = rows.ncols();
    add_to_slice(flat_mut(rows), width, d, length, keys);
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;

    #[test]
    fn noise_has_its_length_and_the_signs_of_its_row() {
        let (width, d) = (32, 20);
        let value = |row: usize, k: usize| if k < d { ((row * width + k) % 3) as f32 - 1.0 } else { 0.0 };
        let rows = Array2::from_shape_fn((50, width), |(row, k)| value(row, k));
        let mut noisy = rows.clone();
        let keys: Vec<u32> = (0..50).collect();
        add(noisy.view_mut(), d, 0.3, &keys);
        for (row, noisy) in rows.rows().into_iter().zip(noisy.rows()) {
            let added: Vec<f32> = noisy.iter().zip(&row).map(|(n, r)| n - r).collect();
            assert!(added.iter().zip(&row).all(|(n, r)| n * r >= 0.0 && (*r != 0.0 || *n == 0.0)));
            let length = added.iter().map(|x| x * x).sum::<f32>().sqrt();
            assert!(length < 0.3 && length > 0.15, "{length}");
        }
        assert_ne!(noisy.row(0), noisy.row(3));
    }
}
