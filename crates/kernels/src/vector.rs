//! One SIMD register of `f32`, as the kernels see it, and the run-time choice among the registers of this processor.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// A register of [`Vector::LANES`] floats.
///
/// # Safety
/// The methods of an implementation may only run on a processor that has its instructions; [`dispatch!`](crate::vector::dispatch) sees to that.
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
    /// The sum of the lanes of each of four registers: fewer instructions than four times [`sum`](Self::sum).
    /// # Safety
    /// See the trait.
    #[inline(always)]
    unsafe fn sums(of: [Self; 4]) -> [f32; 4] {
        // SAFETY: the caller keeps the promise of the trait.
        of.map(|v| unsafe { v.sum() })
    }
    /// Whether any lane is greater than the same lane of `other`; false for NaN.
    /// # Safety
    /// See the trait.
    unsafe fn any_greater(self, other: Self) -> bool;
    /// `LANES` floats from the lower halves of as many words, each half a bfloat16: the upper 16 bits of a float.
    /// # Safety
    /// See the trait; `from` is valid for `LANES` words.
    unsafe fn lower_halves(from: *const u32) -> Self;
    /// The same from the upper halves.
    /// # Safety
    /// See [`lower_halves`](Self::lower_halves).
    unsafe fn upper_halves(from: *const u32) -> Self;
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
        // SAFETY: the caller keeps the promise of the trait.
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller keeps the promise of the trait.
        unsafe { _mm512_storeu_ps(to, self) }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller keeps the promise of the trait.
        unsafe { _mm512_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: the caller keeps the promise of the trait.
        unsafe { _mm512_fmadd_ps(self, factor, addend) }
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        // SAFETY: the caller keeps the promise of the trait.
        unsafe { _mm512_reduce_add_ps(self) }
    }
    #[inline(always)]
    unsafe fn sums([a, b, c, d]: [Self; 4]) -> [f32; 4] {
        // SAFETY: the caller keeps the promise of the trait.
        unsafe {
            // Pairs, then quarters of each 128-bit part: then every part holds (a, b, c, d), and the parts are added.
            let ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
            let cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
            let (ab, cd) = (_mm512_castps_pd(ab), _mm512_castps_pd(cd));
            let low = _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd));
            let all = _mm512_add_ps(low, _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd)));
            let upper = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(all)));
            let half = _mm256_add_ps(_mm512_castps512_ps256(all), upper);
            let quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps::<1>(half));
            let mut out = [0.0; 4];
            _mm_storeu_ps(out.as_mut_ptr(), quarter);
            out
        }
    }
    #[inline(always)]
    unsafe fn any_greater(self, other: Self) -> bool {
        // SAFETY: the caller keeps the promise of the trait.
        unsafe { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(self, other) != 0 }
    }
    #[inline(always)]
    unsafe fn lower_halves(from: *const u32) -> Self {
        // SAFETY: the caller keeps the promise of the trait.
        unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_loadu_si512(from.cast()))) }
    }
    #[inline(always)]
    unsafe fn upper_halves(from: *const u32) -> Self {
        // SAFETY: the caller keeps the promise of the trait.
        unsafe {
            let mask = _mm512_set1_epi32(0xffff_0000u32 as i32);
            _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(from.cast()), mask))
        }
    }
}

#[cfg(target_arch = "x86_64")]
// SAFETY: every method is a fixed sequence of AVX and FMA instructions on LANES floats.
unsafe impl Vector for __m256 {
    const LANES: usize = 8;
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller keeps the promise of the trait.
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller keeps the promise of the trait.
        unsafe { _mm256_storeu_ps(to, self) }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller keeps the promise of the trait.
        unsafe { _mm256_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: the caller keeps the promise of the trait.
        unsafe { _mm256_fmadd_ps(self, factor, addend) }
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        // SAFETY: the caller keeps the promise of the trait.
        unsafe {
            let half = _mm_add_ps(_mm256_castps256_ps128(self), _mm256_extractf128_ps::<1>(self));
            let quarter = _mm_add_ps(half, _mm_movehl_ps(half, half));
            _mm_cvtss_f32(_mm_add_ss(quarter, _mm_shuffle_ps::<1>(quarter, quarter)))
        }
    }
    #[inline(always)]
    unsafe fn sums([a, b, c, d]: [Self; 4]) -> [f32; 4] {
        // SAFETY: the caller keeps the promise of the trait.
        unsafe {
            let all = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
            let quarter = _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps::<1>(all));
            let mut out = [0.0; 4];
            _mm_storeu_ps(out.as_mut_ptr(), quarter);
            out
        }
    }
    #[inline(always)]
    unsafe fn any_greater(self, other: Self) -> bool {
        // SAFETY: the caller keeps the promise of the trait.
        unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(self, other)) != 0 }
    }
    #[inline(always)]
    unsafe fn lower_halves(from: *const u32) -> Self {
        // SAFETY: the caller keeps the promise of the trait.
        unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_loadu_si256(from.cast()))) }
    }
    #[inline(always)]
    unsafe fn upper_halves(from: *const u32) -> Self {
        // SAFETY: the caller keeps the promise of the trait.
        unsafe {
            let mask = _mm256_set1_epi32(0xffff_0000u32 as i32);
            _mm256_castsi256_ps(_mm256_and_si256(_mm256_loadu_si256(from.cast()), mask))
        }
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
        // SAFETY: the caller keeps the promise of the trait.
        Self(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller keeps the promise of the trait.
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
    #[inline(always)]
    unsafe fn lower_halves(from: *const u32) -> Self {
        // SAFETY: the caller keeps the promise of the trait.
        let words = unsafe { from.cast::<[u32; 4]>().read_unaligned() };
        Self(words.map(|w| f32::from_bits(w << 16)))
    }
    #[inline(always)]
    unsafe fn upper_halves(from: *const u32) -> Self {
        // SAFETY: the caller keeps the promise of the trait.
        let words = unsafe { from.cast::<[u32; 4]>().read_unaligned() };
        Self(words.map(|w| f32::from_bits(w & 0xffff_0000)))
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
#[macro_export]
macro_rules! dispatch {
    ($(#[$attribute:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:ident) => {
        $(#[$attribute])*
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            $crate::dispatch!(@choose ($($arg: $ty),*) ($($ret)?) $body)
        }
    };
    // What a body asks of its caller beyond the instructions is the caller's to prove.
    ($(#[$attribute:meta])* $vis:vis unsafe fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:ident) => {
        $(#[$attribute])*
        $vis unsafe fn $name($($arg: $ty),*) $(-> $ret)? {
            $crate::dispatch!(@choose ($($arg: $ty),*) ($($ret)?) $body)
        }
    };
    (@choose ($($arg:ident: $ty:ty),*) ($($ret:ty)?) $body:ident) => {{
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx512f,avx2,fma")]
            fn avx512($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: this function has the instructions; what else the body asks for, the enclosing function does.
                unsafe { $body::<std::arch::x86_64::__m512, 4>($($arg),*) }
            }
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: as above.
                unsafe { $body::<std::arch::x86_64::__m256, 2>($($arg),*) }
            }
            match $crate::vector::level() {
                // SAFETY: `level` found the instructions on this processor.
                $crate::vector::Level::Avx512 => return unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                $crate::vector::Level::Avx2 => return unsafe { avx2($($arg),*) },
                $crate::vector::Level::Portable => {}
            }
        }
        const TILE: usize = if cfg!(target_arch = "aarch64") { 4 } else { 2 };
        // SAFETY: `Portable` needs no particular instructions; what else the body asks for, the enclosing function does.
        unsafe { $body::<$crate::vector::Portable, TILE>($($arg),*) }
    }};
}
pub use crate::dispatch;
