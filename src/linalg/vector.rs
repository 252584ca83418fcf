//! One SIMD register of `f32`, as the kernels see it, and the run-time choice among the registers of this processor.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// A register of [`Vector::LANES`] floats.
///
/// # Safety
/// The methods of an implementation may only run on a processor that has its instructions; [`dispatch!`](crate::linalg::vector::dispatch) sees to that.
/// Pointers must be valid for `LANES` floats; they need no alignment.
pub unsafe trait Vector: Copy {
    const LANES: usize;
    /// # Safety
    /// See the trait.
    unsafe fn load(from: *const f32) -> Self;
    /// # Safety
    /// See the trait.
    unsafe fn store(self, to: *mut f32);
    /// # Safety
    /// See the trait.
    unsafe fn splat(value: f32) -> Self;
    /// `self * factor + addend`, in one rounding where the processor can.
    /// # Safety
    /// See the trait.
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// Sum of the lanes.
    /// # Safety
    /// See the trait.
    unsafe fn sum(self) -> f32;
    /// The sums of four registers, in fewer instructions than four times [`sum`](Self::sum), and in another order.
    /// # Safety
    /// See the trait.
    #[inline(always)]
    unsafe fn sum_four(v: [Self; 4]) -> [f32; 4] {
        unsafe { [v[0].sum(), v[1].sum(), v[2].sum(), v[3].sum()] }
    }
    /// Whether any lane is greater than the same lane of `other`; false for NaN.
    /// # Safety
    /// See the trait.
    unsafe fn any_greater(self, other: Self) -> bool;
    /// Asks for the cache line at `address`; any address is allowed.
    #[inline(always)]
    fn prefetch(address: *const f32) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: SSE is part of x86-64, and a prefetch never faults.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(address.cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = address;
    }
}

#[cfg(target_arch = "x86_64")]
// SAFETY: every method is one AVX-512F instruction (or a fixed sequence of them) on LANES floats.
unsafe impl Vector for __m512 {
    const LANES: usize = 16;
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, self) }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        unsafe { _mm512_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        unsafe { _mm512_fmadd_ps(self, factor, addend) }
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        unsafe { _mm512_reduce_add_ps(self) }
    }
    #[inline(always)]
    unsafe fn sum_four([a, b, c, d]: [Self; 4]) -> [f32; 4] {
        unsafe {
            // A transposition in each 128-bit lane, adding on the way: every lane ends as (Σa, Σb, Σc, Σd) of its quarter.
            let ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
            let cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
            let all = _mm512_add_ps(_mm512_shuffle_ps::<0x44>(ab, cd), _mm512_shuffle_ps::<0xee>(ab, cd));
            let high = _mm512_shuffle_f32x4::<0x4e>(all, all);
            let half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_castps512_ps256(high));
            let quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps::<1>(half));
            std::mem::transmute(quarter)
        }
    }
    #[inline(always)]
    unsafe fn any_greater(self, other: Self) -> bool {
        unsafe { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(self, other) != 0 }
    }
}

#[cfg(target_arch = "x86_64")]
// SAFETY: every method is a fixed sequence of AVX and FMA instructions on LANES floats.
unsafe impl Vector for __m256 {
    const LANES: usize = 8;
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm256_storeu_ps(to, self) }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        unsafe { _mm256_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        unsafe { _mm256_fmadd_ps(self, factor, addend) }
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        unsafe {
            let half = _mm_add_ps(_mm256_castps256_ps128(self), _mm256_extractf128_ps::<1>(self));
            let quarter = _mm_add_ps(half, _mm_movehl_ps(half, half));
            _mm_cvtss_f32(_mm_add_ss(quarter, _mm_shuffle_ps::<1>(quarter, quarter)))
        }
    }
    #[inline(always)]
    unsafe fn sum_four([a, b, c, d]: [Self; 4]) -> [f32; 4] {
        unsafe {
            let all = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
            let quarter = _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps::<1>(all));
            std::mem::transmute(quarter)
        }
    }
    #[inline(always)]
    unsafe fn any_greater(self, other: Self) -> bool {
        unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(self, other)) != 0 }
    }
}

/// Four floats in plain Rust, which the compiler turns into SSE2 or NEON.
#[derive(Clone, Copy)]
pub struct Portable([f32; 4]);

// SAFETY: plain reads and writes of LANES floats.
unsafe impl Vector for Portable {
    const LANES: usize = 4;
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; 4])
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        let (a, b, c) = (self.0, factor.0, addend.0);
        // Without the instruction, f32::mul_add is a slow call into libm.
        Self(std::array::from_fn(|i| {
            if cfg!(target_arch = "aarch64") { a[i].mul_add(b[i], c[i]) } else { a[i] * b[i] + c[i] }
        }))
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        (self.0[0] + self.0[2]) + (self.0[1] + self.0[3])
    }
    #[inline(always)]
    unsafe fn any_greater(self, other: Self) -> bool {
        (0..4).any(|i| self.0[i] > other.0[i])
    }
}

/// The widest registers of this processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Avx512,
    Avx2,
    Portable,
}

/// Looks at the processor; the standard library remembers the answer.
#[inline]
pub fn level() -> Level {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("fma") {
            return Level::Avx512;
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Level::Avx2;
        }
    }
    Level::Portable
}

/// Declares a function that runs `$body::<V, TILE>` with the widest `V: Vector` of this processor.
///
/// `TILE` is how many registers wide a tile of accumulators four rows high may be: four of the 32 registers of AVX-512
/// and NEON, two of the 16 of AVX2 and SSE2. `$body` must be `#[inline(always)]` and `unsafe`, unsafe for no other reason than
/// the processor's instructions.
macro_rules! dispatch {
    ($(#[$attribute:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:ident) => {
        $(#[$attribute])*
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx2,fma")]
                fn avx512($($arg: $ty),*) $(-> $ret)? {
                    // SAFETY: this function has the instructions.
                    unsafe { $body::<std::arch::x86_64::__m512, 4>($($arg),*) }
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) $(-> $ret)? {
                    // SAFETY: this function has the instructions.
                    unsafe { $body::<std::arch::x86_64::__m256, 2>($($arg),*) }
                }
                match $crate::linalg::vector::level() {
                    // SAFETY: `level` found the instructions on this processor.
                    $crate::linalg::vector::Level::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::linalg::vector::Level::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::linalg::vector::Level::Portable => {}
                }
            }
            const TILE: usize = if cfg!(target_arch = "aarch64") { 4 } else { 2 };
            // SAFETY: `Portable` needs no particular instructions.
            unsafe { $body::<$crate::linalg::vector::Portable, TILE>($($arg),*) }
        }
    };
}
pub(crate) use dispatch;

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(always)]
    unsafe fn sums_body<V: Vector, const TILE: usize>(rows: &[f32; 64]) -> [f32; 8] {
        unsafe {
            let v: [V; 4] = std::array::from_fn(|i| V::load(rows.as_ptr().add(16 * i)));
            let four = V::sum_four(v);
            std::array::from_fn(|i| if i < 4 { four[i] } else { v[i - 4].sum() })
        }
    }
    dispatch! {
        fn sums(rows: &[f32; 64]) -> [f32; 8] = sums_body
    }

    #[test]
    fn four_sums_at_once_are_the_four_sums() {
        let rows = std::array::from_fn(|i| (i * i % 29) as f32);
        let found = sums(&rows);
        assert_eq!(found[..4], found[4..]);
        // SAFETY: plain Rust.
        let portable = unsafe { sums_body::<Portable, 2>(&rows) };
        assert_eq!(portable[..4], portable[4..]);
        #[cfg(target_arch = "x86_64")]
        if level() != Level::Portable {
            #[target_feature(enable = "avx2,fma")]
            fn avx2(rows: &[f32; 64]) -> [f32; 8] {
                // SAFETY: this function has the instructions.
                unsafe { sums_body::<__m256, 2>(rows) }
            }
            // SAFETY: `level` found the instructions.
            let narrow = unsafe { avx2(&rows) };
            assert_eq!(narrow[..4], narrow[4..]);
        }
    }
}
