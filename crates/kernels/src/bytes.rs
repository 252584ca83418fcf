//! Integer products of rows of bytes with queries of bytes, and a test of each row against a threshold.
//!
//! Rows come in blocks of [`ROWS`], laid out for one register: bytes `4g` to `4g + 3` of all 16 rows, then the next four. A
//! register so holds four factors of every row, multiplied with four of the query in one instruction where the processor
//! has it (AVX-512 VNNI), and no sum over a register's lanes is ever needed.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Rows of a block.
pub const ROWS: usize = 16;
/// Offset of the bytes of rows: a byte `b` stands for `b − OFFSET`.
pub const OFFSET: u8 = 128;

/// Bytes of a block whose rows have `groups` groups of four.
pub const fn block_bytes(groups: usize) -> usize {
    groups * ROWS * 4
}

/// A query and what its products are measured with. See [`passes`].
#[derive(Clone, Debug)]
pub struct ByteQuery {
    /// Four signed bytes each, the first lowest.
    groups: Vec<i32>,
    /// What [`OFFSET`] adds to each product, negated.
    start: i32,
    /// What a product of bytes is worth, before a row's own scale.
    pub scale: f32,
    /// The threshold that a row must reach.
    pub least: f32,
}

impl ByteQuery {
    /// `values` are from −127 to 127; missing ones at the end count as 0.
    pub fn new(values: &[i8], groups: usize, scale: f32) -> Self {
        let group = |g: usize| {
            let four: [i8; 4] = std::array::from_fn(|i| values.get(4 * g + i).copied().unwrap_or(0));
            i32::from_le_bytes(four.map(|v| v as u8))
        };
        let sum: i32 = values.iter().map(|&v| i32::from(v)).sum();
        let start = -i32::from(OFFSET) * sum;
        Self { groups: (0..groups).map(group).collect(), start, scale, least: f32::NEG_INFINITY }
    }
}

/// The rows for [`passes`].
#[derive(Clone, Copy)]
pub struct Blocks<'a> {
    /// [blocks, groups, ROWS, 4]
    pub bytes: &'a [u8],
    /// [blocks, ROWS]: each row's scale.
    pub scales: &'a [f32],
    /// Groups of four bytes in a row.
    pub groups: usize,
}

impl Blocks<'_> {
    fn count(&self) -> usize {
        self.scales.len() / ROWS
    }
}

/// The integer instructions of this processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteLevel {
    Avx512Vnni,
    Avx512,
    Avx2,
    Portable,
}

impl ByteLevel {
    pub const ALL: [Self; 4] = [Self::Avx512Vnni, Self::Avx512, Self::Avx2, Self::Portable];

    /// Whether this processor has them; the standard library remembers the answer.
    pub fn is_here(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        match self {
            Self::Avx512Vnni => return Self::Avx512.is_here() && is_x86_feature_detected!("avx512vnni"),
            Self::Avx512 => return is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw"),
            Self::Avx2 => return is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            Self::Portable => {}
        }
        self == Self::Portable
    }

    /// The best of this processor.
    pub fn best() -> Self {
        Self::ALL.into_iter().find(|level| level.is_here()).unwrap_or(Self::Portable)
    }
}

/// Sums of the products of 16 rows, one a lane.
///
/// # Safety
/// The methods of an implementation may only run on a processor that has its instructions. Pointers must be valid for a group
/// of a block (64 bytes) or for [`ROWS`] floats; they need no alignment.
unsafe trait Sums: Copy {
    /// 64 bytes of rows.
    type Rows: Copy;
    /// Four bytes of a query, in every lane.
    type Query: Copy;
    /// # Safety
    /// See the trait.
    unsafe fn splat(value: i32) -> Self;
    /// # Safety
    /// See the trait.
    unsafe fn rows(from: *const u8) -> Self::Rows;
    /// # Safety
    /// See the trait.
    unsafe fn query(group: i32) -> Self::Query;
    /// # Safety
    /// See the trait.
    unsafe fn add(self, rows: Self::Rows, query: Self::Query) -> Self;
    /// A bit for each row whose `(sum · scale + slack) · scales[row]` is not less than `least`; NaN is not less.
    /// # Safety
    /// See the trait.
    unsafe fn passing(self, scale: f32, slack: f32, scales: *const f32, least: f32) -> u16;
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn passing_512(sums: __m512i, scale: f32, slack: f32, scales: *const f32, least: f32) -> u16 {
    // SAFETY: the caller keeps the promise of the trait.
    unsafe {
        let bound = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), _mm512_set1_ps(scale), _mm512_set1_ps(slack));
        let bound = _mm512_mul_ps(bound, _mm512_loadu_ps(scales));
        _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(bound, _mm512_set1_ps(least))
    }
}

#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
struct Vnni(__m512i);

#[cfg(target_arch = "x86_64")]
// SAFETY: AVX-512F, and one instruction of AVX-512 VNNI; reads no more than the trait allows.
unsafe impl Sums for Vnni {
    type Rows = __m512i;
    type Query = __m512i;
    #[inline(always)]
    unsafe fn splat(value: i32) -> Self {
        // SAFETY: the caller keeps the promise of the trait.
        Self(unsafe { _mm512_set1_epi32(value) })
    }
    #[inline(always)]
    unsafe fn rows(from: *const u8) -> Self::Rows {
        // SAFETY: the caller keeps the promise of the trait.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn query(group: i32) -> Self::Query {
        // SAFETY: the caller keeps the promise of the trait.
        unsafe { _mm512_set1_epi32(group) }
    }
    #[inline(always)]
    unsafe fn add(self, rows: Self::Rows, query: Self::Query) -> Self {
        // SAFETY: the caller keeps the promise of the trait.
        Self(unsafe { _mm512_dpbusd_epi32(self.0, rows, query) })
    }
    #[inline(always)]
    unsafe fn passing(self, scale: f32, slack: f32, scales: *const f32, least: f32) -> u16 {
        // SAFETY: the caller keeps the promise of the trait.
        unsafe { passing_512(self.0, scale, slack, scales, least) }
    }
}

/// Even and odd bytes apart, as 16-bit numbers: no sum of two products can overflow, as it can in `maddubs`.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
struct Wide(__m512i);

#[cfg(target_arch = "x86_64")]
// SAFETY: AVX-512F and AVX-512BW; reads no more than the trait allows.
unsafe impl Sums for Wide {
    type Rows = [__m512i; 2];
    type Query = [__m512i; 2];
    #[inline(always)]
    unsafe fn splat(value: i32) -> Self {
        // SAFETY: the caller keeps the promise of the trait.
        Self(unsafe { _mm512_set1_epi32(value) })
    }
    #[inline(always)]
    unsafe fn rows(from: *const u8) -> Self::Rows {
        // SAFETY: the caller keeps the promise of the trait.
        unsafe {
            let bytes = _mm512_loadu_si512(from.cast());
            [_mm512_and_si512(bytes, _mm512_set1_epi16(0xff)), _mm512_srli_epi16::<8>(bytes)]
        }
    }
    #[inline(always)]
    unsafe fn query(group: i32) -> Self::Query {
        // SAFETY: the caller keeps the promise of the trait.
        unsafe {
            let bytes = _mm512_set1_epi32(group);
            [_mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(bytes)), _mm512_srai_epi16::<8>(bytes)]
        }
    }
    #[inline(always)]
    unsafe fn add(self, rows: Self::Rows, query: Self::Query) -> Self {
        // SAFETY: the caller keeps the promise of the trait.
        unsafe {
            let even = _mm512_madd_epi16(rows[0], query[0]);
            let odd = _mm512_madd_epi16(rows[1], query[1]);
            Self(_mm512_add_epi32(self.0, _mm512_add_epi32(even, odd)))
        }
    }
    #[inline(always)]
    unsafe fn passing(self, scale: f32, slack: f32, scales: *const f32, least: f32) -> u16 {
        // SAFETY: the caller keeps the promise of the trait.
        unsafe { passing_512(self.0, scale, slack, scales, least) }
    }
}

/// [`Wide`] in two halves. Written out twice: a closure around an instruction may end as a call.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
struct Halves(__m256i, __m256i);

#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn half_rows(from: *const u8) -> [__m256i; 2] {
    // SAFETY: the caller keeps the promise of the trait.
    unsafe {
        let bytes = _mm256_loadu_si256(from.cast());
        [_mm256_and_si256(bytes, _mm256_set1_epi16(0xff)), _mm256_srli_epi16::<8>(bytes)]
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn half_add(sums: __m256i, rows: [__m256i; 2], query: [__m256i; 2]) -> __m256i {
    // SAFETY: the caller keeps the promise of the trait.
    unsafe {
        let (even, odd) = (_mm256_madd_epi16(rows[0], query[0]), _mm256_madd_epi16(rows[1], query[1]));
        _mm256_add_epi32(sums, _mm256_add_epi32(even, odd))
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn half_passing(sums: __m256i, scale: f32, slack: f32, scales: *const f32, least: f32) -> u16 {
    // SAFETY: the caller keeps the promise of the trait.
    unsafe {
        let bound = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), _mm256_set1_ps(scale), _mm256_set1_ps(slack));
        let bound = _mm256_mul_ps(bound, _mm256_loadu_ps(scales));
        _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_NLT_UQ>(bound, _mm256_set1_ps(least))) as u16
    }
}

#[cfg(target_arch = "x86_64")]
// SAFETY: AVX2 and FMA; reads no more than the trait allows.
unsafe impl Sums for Halves {
    type Rows = [[__m256i; 2]; 2];
    type Query = [__m256i; 2];
    #[inline(always)]
    unsafe fn splat(value: i32) -> Self {
        // SAFETY: the caller keeps the promise of the trait.
        unsafe { Self(_mm256_set1_epi32(value), _mm256_set1_epi32(value)) }
    }
    #[inline(always)]
    unsafe fn rows(from: *const u8) -> Self::Rows {
        // SAFETY: the caller keeps the promise of the trait.
        unsafe { [half_rows(from), half_rows(from.add(32))] }
    }
    #[inline(always)]
    unsafe fn query(group: i32) -> Self::Query {
        // SAFETY: the caller keeps the promise of the trait.
        unsafe {
            let bytes = _mm256_set1_epi32(group);
            [_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(bytes)), _mm256_srai_epi16::<8>(bytes)]
        }
    }
    #[inline(always)]
    unsafe fn add(self, rows: Self::Rows, query: Self::Query) -> Self {
        // SAFETY: the caller keeps the promise of the trait.
        unsafe { Self(half_add(self.0, rows[0], query), half_add(self.1, rows[1], query)) }
    }
    #[inline(always)]
    unsafe fn passing(self, scale: f32, slack: f32, scales: *const f32, least: f32) -> u16 {
        // SAFETY: the caller keeps the promise of the trait.
        unsafe {
            half_passing(self.0, scale, slack, scales, least)
                | half_passing(self.1, scale, slack, scales.add(8), least) << 8
        }
    }
}

/// Plain Rust, which the compiler turns into SSE2 or NEON.
#[derive(Clone, Copy)]
struct Plain([i32; ROWS]);

// SAFETY: reads no more than the trait allows.
unsafe impl Sums for Plain {
    type Rows = [[u8; 4]; ROWS];
    type Query = [i16; 4];
    #[inline(always)]
    unsafe fn splat(value: i32) -> Self {
        Self([value; ROWS])
    }
    #[inline(always)]
    unsafe fn rows(from: *const u8) -> Self::Rows {
        // SAFETY: the caller keeps the promise of the trait.
        unsafe { from.cast::<[[u8; 4]; ROWS]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn query(group: i32) -> Self::Query {
        group.to_le_bytes().map(|byte| i16::from(byte as i8))
    }
    #[inline(always)]
    unsafe fn add(self, rows: Self::Rows, query: Self::Query) -> Self {
        Self(std::array::from_fn(|r| {
            let product = |i: usize| i32::from(i16::from(rows[r][i])) * i32::from(query[i]);
            self.0[r] + ((product(0) + product(1)) + (product(2) + product(3)))
        }))
    }
    #[inline(always)]
    unsafe fn passing(self, scale: f32, slack: f32, scales: *const f32, least: f32) -> u16 {
        // SAFETY: the caller keeps the promise of the trait.
        let scales = unsafe { scales.cast::<[f32; ROWS]>().read_unaligned() };
        let below = |r: usize| (self.0[r] as f32 * scale + slack) * scales[r] < least;
        (0..ROWS).fold(0, |bits, r| bits | u16::from(!below(r)) << r)
    }
}

/// Where the masks of `B` blocks from `block` on, for `U` queries from `first` on, are worked out.
#[inline(always)]
unsafe fn tile<S: Sums, const U: usize, const B: usize>(
    blocks: &Blocks,
    block: usize,
    queries: &[ByteQuery; U],
    slacks: [*const f32; U],
    masks: [*mut u16; U],
) {
    // SAFETY: the caller keeps the promise of the trait.
    unsafe {
        let stride = block_bytes(blocks.groups);
        let from = blocks.bytes.as_ptr().add(block * stride);
        let mut groups = [std::ptr::null(); U];
        let mut sums = [[S::splat(0); B]; U];
        for (u, query) in queries.iter().enumerate() {
            groups[u] = query.groups.as_ptr();
            sums[u] = [S::splat(query.start); B];
        }
        for g in 0..blocks.groups {
            let mut rows = [S::rows(from.add(g * ROWS * 4)); B];
            for (b, rows) in rows.iter_mut().enumerate().skip(1) {
                *rows = S::rows(from.add(b * stride + g * ROWS * 4));
            }
            for u in 0..U {
                let query = S::query(*groups[u].add(g));
                for b in 0..B {
                    sums[u][b] = sums[u][b].add(rows[b], query);
                }
            }
        }
        for (u, (sums, query)) in sums.iter().zip(queries).enumerate() {
            for (b, sums) in (block..).zip(sums) {
                let scales = blocks.scales.as_ptr().add(b * ROWS);
                *masks[u].add(b) = sums.passing(query.scale, *slacks[u].add(b), scales, query.least);
            }
        }
    }
}

#[inline(always)]
unsafe fn passes_body<S: Sums, const U: usize, const B: usize, const ALONE: usize>(
    blocks: &Blocks,
    queries: &[ByteQuery],
    slacks: &[f32],
    masks: &mut [u16],
) {
    let n = blocks.count();
    assert!(blocks.bytes.len() == n * block_bytes(blocks.groups) && blocks.scales.len() == n * ROWS);
    assert!(slacks.len() == n * queries.len() && masks.len() == n * queries.len());
    assert!(queries.iter().all(|query| query.groups.len() == blocks.groups));
    let (full, rest) = queries.as_chunks::<U>();
    // SAFETY: the sizes were checked above; `block` and the `B` or `ALONE` blocks from it on lie within `blocks`.
    unsafe {
        for (t, queries) in full.iter().enumerate() {
            let slacks = std::array::from_fn(|u| slacks.as_ptr().add((t * U + u) * n));
            let masks: [*mut u16; U] = std::array::from_fn(|u| masks.as_mut_ptr().add((t * U + u) * n));
            let mut block = 0;
            while block + B <= n {
                tile::<S, U, B>(blocks, block, queries, slacks, masks);
                block += B;
            }
            while block < n {
                tile::<S, U, 1>(blocks, block, queries, slacks, masks);
                block += 1;
            }
        }
        for (u, query) in (full.len() * U..).zip(rest) {
            let (slacks, masks) = ([slacks.as_ptr().add(u * n)], [masks.as_mut_ptr().add(u * n)]);
            let query = std::array::from_ref(query);
            let mut block = 0;
            while block + ALONE <= n {
                tile::<S, 1, ALONE>(blocks, block, query, slacks, masks);
                block += ALONE;
            }
            while block < n {
                tile::<S, 1, 1>(blocks, block, query, slacks, masks);
                block += 1;
            }
        }
    }
}

/// For each query and block, a bit for each row whose `(p · query.scale + slack) · scale` is not less than `query.least`, where `p`
/// is the product of the query's and the row's bytes: `masks` [queries, blocks], `slacks` [queries, blocks].
pub fn passes(level: ByteLevel, blocks: &Blocks, queries: &[ByteQuery], slacks: &[f32], masks: &mut [u16]) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512vnni,avx2,fma")]
        fn vnni(blocks: &Blocks, queries: &[ByteQuery], slacks: &[f32], masks: &mut [u16]) {
            // SAFETY: this function has the instructions.
            unsafe { passes_body::<Vnni, 6, 4, 4>(blocks, queries, slacks, masks) }
        }
        #[target_feature(enable = "avx512f,avx512bw,avx2,fma")]
        fn avx512(blocks: &Blocks, queries: &[ByteQuery], slacks: &[f32], masks: &mut [u16]) {
            // SAFETY: this function has the instructions.
            unsafe { passes_body::<Wide, 6, 2, 4>(blocks, queries, slacks, masks) }
        }
        #[target_feature(enable = "avx2,fma")]
        fn avx2(blocks: &Blocks, queries: &[ByteQuery], slacks: &[f32], masks: &mut [u16]) {
            // SAFETY: this function has the instructions.
            unsafe { passes_body::<Halves, 3, 1, 2>(blocks, queries, slacks, masks) }
        }
        match level {
            // SAFETY: the processor was asked.
            ByteLevel::Avx512Vnni if level.is_here() => return unsafe { vnni(blocks, queries, slacks, masks) },
            // SAFETY: as above.
            ByteLevel::Avx512 if level.is_here() => return unsafe { avx512(blocks, queries, slacks, masks) },
            // SAFETY: as above.
            ByteLevel::Avx2 if level.is_here() => return unsafe { avx2(blocks, queries, slacks, masks) },
            _ => {}
        }
    }
    let _ = level;
    // SAFETY: `Plain` needs no particular instructions.
    unsafe { passes_body::<Plain, 1, 1, 1>(blocks, queries, slacks, masks) }
}
