//! Memory whose size depends on the data. Running out of it, or exceeding the limit of the call, is an error.
//!
//! The allocator reports to [`took`]. A call may allocate a limited amount beyond what was allocated when it began ([`Ceiling`]). Allocations
//! made here are checked beforehand; others are noticed at the next check of the call.

use std::alloc::{Layout, alloc_zeroed};
use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicIsize, Ordering};

use ndarray::Array2;

use crate::error::{Error, Result};

const HUGE_PAGE: usize = 2 << 20;

thread_local! {
    static FALLIBLE: Cell<bool> = const { Cell::new(false) };
}

/// Whether the current allocation may fail, because its caller handles that.
pub fn is_fallible() -> bool {
    FALLIBLE.get()
}

/// Ends the process if a helper thread waits for memory in vain.
static STUCK: OnceLock<fn()> = OnceLock::new();

/// Sets the function that [`end_if_stuck`] calls. Only the first call has an effect.
pub fn when_stuck(look: fn()) {
    STUCK.get_or_init(|| look);
}

/// Called every few milliseconds by a thread that waits for its helpers. Does not return if one of them cannot end.
pub fn end_if_stuck() {
    if let Some(look) = STUCK.get() {
        look();
    }
}

/// Bytes allocated by this process, without what its threads have not reported yet.
static TAKEN: AtomicIsize = AtomicIsize::new(0);
/// The limit of [`TAKEN`], and the allowance of the current call in it.
static CEILING: AtomicIsize = AtomicIsize::new(isize::MAX);
static ALLOWANCE: AtomicIsize = AtomicIsize::new(isize::MAX);

/// Bytes that a thread allocates or frees before it reports them. Updating one shared counter each time would slow all threads down.
const BATCH: usize = 64 << 10;

/// Reports that bytes were allocated or, if negative, freed.
#[inline]
pub fn took(bytes: isize) {
    thread_local! {
        static UNTOLD: Cell<isize> = const { Cell::new(0) };
    }
    let sum = UNTOLD.get() + bytes;
    if sum.unsigned_abs() < BATCH {
        UNTOLD.set(sum);
    } else {
        UNTOLD.set(0);
        TAKEN.fetch_add(sum, Ordering::Relaxed);
    }
}

/// The memory limit of a call.
#[derive(Clone, Copy, Debug)]
pub struct Ceiling {
    most: isize,
    allowance: isize,
}

impl Ceiling {
    /// `allowance` bytes beyond what is allocated now; `None` for no limit.
    pub fn new(allowance: Option<usize>) -> Self {
        let allowance = allowance.and_then(|bytes| isize::try_from(bytes).ok()).unwrap_or(isize::MAX);
        Self { most: TAKEN.load(Ordering::Relaxed).max(0).saturating_add(allowance), allowance }
    }

    /// Makes this limit the current one and checks it. Each check of a call does so, since another call in between may have set its own.
    pub fn hold(self) -> Result<()> {
        CEILING.store(self.most, Ordering::Relaxed);
        ALLOWANCE.store(self.allowance, Ordering::Relaxed);
        fits(0)
    }

    /// Removes the limit until another call sets its own.
    pub fn lift() {
        CEILING.store(isize::MAX, Ordering::Relaxed);
    }
}

/// An error if the current call may not allocate `more` bytes.
fn fits(more: usize) -> Result<()> {
    let ceiling = CEILING.load(Ordering::Relaxed);
    let needed = TAKEN.load(Ordering::Relaxed).saturating_add_unsigned(more);
    if needed <= ceiling {
        return Ok(());
    }
    let allowance = ALLOWANCE.load(Ordering::Relaxed);
    let megabytes = |bytes: isize| format!("{} MB", (bytes as f64 / f64::from(1 << 20)).ceil());
    Err(Error::TooLarge {
        what: "this call".into(),
        needed: megabytes(needed.saturating_sub(ceiling.saturating_sub(allowance))),
        limit: format!("{} (reco.training_memory)", megabytes(allowance)),
        hint: "Reduce rows, ids, columns or factors, or ask a superuser to raise reco.training_memory.".into(),
    })
}

/// Checks that the system would provide `bytes`, without allocating them. For use before code that crashes without memory.
pub fn require(bytes: usize) -> Result<()> {
    // SAFETY: a new private mapping at an address of the system's choosing, never touched, and taken away at once.
    unsafe {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let block = libc::mmap(std::ptr::null_mut(), bytes, access, kind, -1, 0);
        if block == libc::MAP_FAILED {
            return Err(Error::Resources(format!("could not allocate {bytes} bytes")));
        }
        libc::munmap(block, bytes);
    }
    Ok(())
}

/// Reserves room for `more` elements, with amortized growth.
pub fn reserve<T>(vector: &mut Vec<T>, more: usize) -> Result<()> {
    let missing = more.saturating_sub(vector.capacity() - vector.len());
    if missing == 0 {
        return Ok(());
    }
    let bytes = |elements: usize| elements.saturating_mul(size_of::<T>());
    // Twice the size, as a vector grows; near the ceiling less.
    let room = [vector.capacity(), vector.capacity() / 8].map(|room| room.max(missing));
    let room = if fits(bytes(room[0])).is_ok() { room[0] } else { room[1] };
    fits(bytes(room))?;
    let beyond = vector.capacity() - vector.len() + room;
    FALLIBLE.set(true);
    let result = vector.try_reserve_exact(beyond);
    FALLIBLE.set(false);
    result.map_err(|_| Error::Resources(format!("could not allocate {} bytes", bytes(more))))
}

/// `n` elements, each `value`.
pub fn filled<T: Clone>(value: T, n: usize) -> Result<Vec<T>> {
    let mut vector = Vec::new();
    reserve(&mut vector, n)?;
    vector.resize(n, value);
    Ok(vector)
}

/// A matrix [rows, columns], each element `value`.
pub fn matrix<T: Clone>(rows: usize, columns: usize, value: T) -> Result<Array2<T>> {
    shaped(rows, columns, filled(value, rows.saturating_mul(columns))?)
}

/// The rows of a matrix [rows, columns] one after the other, as that matrix. Copies nothing.
pub fn shaped<T>(rows: usize, columns: usize, values: Vec<T>) -> Result<Array2<T>> {
    let found = values.len();
    Array2::from_shape_vec((rows, columns), values)
        .map_err(|_| Error::Internal(format!("{found} values for a matrix of {rows} rows and {columns} columns")))
}

/// Makes `matrix` one [rows, columns] of `value`, in the memory it has where that is enough.
pub fn renew<T: Clone>(matrix: &mut Array2<T>, rows: usize, columns: usize, value: T) -> Result<()> {
    let (mut values, _) =
        std::mem::replace(matrix, Array2::from_shape_fn((0, 0), |_| value.clone())).into_raw_vec_and_offset();
    values.clear();
    let size = rows.saturating_mul(columns);
    reserve(&mut values, size)?;
    values.resize(size, value);
    *matrix = shaped(rows, columns, values)?;
    Ok(())
}

/// [`zeroed`] for floats.
pub fn zeros(n: usize) -> Result<Vec<f32>> {
    zeroed(n)
}

/// `n` zeroed elements whose pages have not been touched yet: they are allocated when first written, by any thread. Huge pages are used if
/// available; a large block then needs far fewer page faults.
pub fn zeroed<T: bytemuck::Zeroable>(n: usize) -> Result<Vec<T>> {
    let none = || Error::Resources(format!("could not allocate {} bytes", n.saturating_mul(size_of::<T>())));
    let layout = Layout::array::<T>(n).map_err(|_| none())?;
    if layout.size() == 0 {
        return Ok(Vec::new());
    }
    fits(layout.size())?;
    FALLIBLE.set(true);
    // SAFETY: the layout is not empty.
    let block = unsafe { alloc_zeroed(layout) };
    FALLIBLE.set(false);
    if block.is_null() {
        return Err(none());
    }
    let inner = (block as usize).next_multiple_of(HUGE_PAGE);
    let end = (block as usize + layout.size()) / HUGE_PAGE * HUGE_PAGE;
    if inner < end {
        // SAFETY: whole pages within the block; the advice changes nothing that is in them, and may be refused.
        unsafe { libc::madvise(inner as *mut libc::c_void, end - inner, libc::MADV_HUGEPAGE) };
    }
    // SAFETY: allocated by the allocator that a vector uses, with the layout of `n` elements, each of which may be all bits zero.
    Ok(unsafe { Vec::from_raw_parts(block.cast(), n, n) })
}

/// Appends `values`.
pub fn extend<T: Clone>(vector: &mut Vec<T>, values: &[T]) -> Result<()> {
    reserve(vector, values.len())?;
    vector.extend_from_slice(values);
    Ok(())
}

/// Appends `value`.
pub fn push<T>(vector: &mut Vec<T>, value: T) -> Result<()> {
    reserve(vector, 1)?;
    vector.push(value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_grow_by_doubling_and_to_what_is_asked_for() {
        let mut vector: Vec<u64> = Vec::new();
        let mut sizes = Vec::new();
        for i in 0..1000 {
            push(&mut vector, i).unwrap();
            sizes.push(vector.capacity());
        }
        sizes.dedup();
        assert!(sizes.len() <= 11, "{sizes:?}");
        assert_eq!(vector, (0..1000).collect::<Vec<_>>());
        reserve(&mut vector, 5000).unwrap();
        assert_eq!(vector.capacity(), 6000);
    }

    #[test]
    fn what_a_ceiling_of_none_allows_fits() {
        assert!(Ceiling::new(None).hold().is_ok() && fits(1 << 40).is_ok());
    }

    #[test]
    fn what_cannot_be_had_is_an_error_and_leaves_the_vector_whole() {
        let mut vector = vec![1u64, 2];
        assert!(matches!(reserve(&mut vector, usize::MAX / 16), Err(Error::Resources(_))));
        assert!(require(1 << 20).is_ok() && matches!(require(usize::MAX / 2), Err(Error::Resources(_))));
        assert!(matches!(filled(0u64, usize::MAX / 16), Err(Error::Resources(_))));
        push(&mut vector, 3).unwrap();
        extend(&mut vector, &[4, 5]).unwrap();
        assert_eq!(vector, [1, 2, 3, 4, 5]);
        assert_eq!(filled(7, 3).unwrap(), [7, 7, 7]);
        assert_eq!(matrix(2, 1, 7).unwrap(), ndarray::array![[7], [7]]);
        assert!(matches!(matrix(usize::MAX / 16, 1 << 60, 0f32), Err(Error::Resources(_))));
        assert!(matches!(shaped(2, 2, vec![1]), Err(Error::Internal(_))));
        let mut again = matrix(4, 3, 7).unwrap();
        let memory = again.as_ptr();
        renew(&mut again, 2, 5, 0).unwrap();
        assert!(again == ndarray::Array2::<i32>::zeros((2, 5)) && again.as_ptr() == memory);
        assert!(matches!(zeros(usize::MAX / 16), Err(Error::Resources(_))) && zeros(0).unwrap().is_empty());
        let mut large = zeros(3 << 20).unwrap();
        assert!(large.iter().all(|&x| x == 0.0));
        large.push(1.0);
        assert_eq!((large.len(), large[3 << 20]), ((3 << 20) + 1, 1.0));
        assert!(!is_fallible());
    }
}
