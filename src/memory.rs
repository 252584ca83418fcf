//! Large blocks whose size comes from the data: where there is no memory for them, that is an error.

use std::alloc::{Layout, alloc_zeroed};
use std::cell::Cell;
use std::sync::OnceLock;

use crate::error::{Error, Result};

const HUGE_PAGE: usize = 2 << 20;

thread_local! {
    static FALLIBLE: Cell<bool> = const { Cell::new(false) };
}

/// Whether the allocation under way may fail: its caller deals with it.
pub fn is_fallible() -> bool {
    FALLIBLE.get()
}

/// What looks whether the process must end, since a helper thread waits for memory that does not come.
static STUCK: OnceLock<fn()> = OnceLock::new();

/// Sets what [`end_if_stuck`] calls; the first counts.
pub fn when_stuck(look: fn()) {
    STUCK.get_or_init(|| look);
}

/// Called every few milliseconds by a thread that waits for its helpers. Does not return where one of them cannot end.
pub fn end_if_stuck() {
    if let Some(look) = STUCK.get() {
        look();
    }
}

/// Asks whether the system would give `bytes`, and takes none: before code that crashes where it gets none.
pub fn require(bytes: usize) -> Result<()> {
    // SAFETY: a new private mapping at an address of the system's choosing, never touched, and taken away at once.
    unsafe {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let block = libc::mmap(std::ptr::null_mut(), bytes, access, kind, -1, 0);
        if block == libc::MAP_FAILED {
            return Err(Error::Resources(format!("no memory for {bytes} more bytes")));
        }
        libc::munmap(block, bytes);
    }
    Ok(())
}

/// Makes room for `more` elements.
pub fn reserve<T>(vector: &mut Vec<T>, more: usize) -> Result<()> {
    FALLIBLE.set(true);
    let result = vector.try_reserve(more);
    FALLIBLE.set(false);
    result.map_err(|_| Error::Resources(format!("no memory for {} more bytes", more.saturating_mul(size_of::<T>()))))
}

/// `n` elements, each `value`.
pub fn filled<T: Clone>(value: T, n: usize) -> Result<Vec<T>> {
    let mut vector = Vec::new();
    reserve(&mut vector, n)?;
    vector.resize(n, value);
    Ok(vector)
}

/// [`zeroed`] for floats.
pub fn zeros(n: usize) -> Result<Vec<f32>> {
    zeroed(n)
}

/// `n` elements of all bits zero as the system gives them, not touched yet: whoever writes a page first takes it, on as many threads as write. In huge pages
/// where the system has them, of which a large block takes hundreds of times fewer to fill and to give back.
pub fn zeroed<T: bytemuck::Zeroable>(n: usize) -> Result<Vec<T>> {
    let none = || Error::Resources(format!("no memory for {} more bytes", n.saturating_mul(size_of::<T>())));
    let layout = Layout::array::<T>(n).map_err(|_| none())?;
    if layout.size() == 0 {
        return Ok(Vec::new());
    }
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
    if vector.len() == vector.capacity() {
        reserve(vector, 1)?;
    }
    vector.push(value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(matches!(zeros(usize::MAX / 16), Err(Error::Resources(_))) && zeros(0).unwrap().is_empty());
        let mut large = zeros(3 << 20).unwrap();
        assert!(large.iter().all(|&x| x == 0.0));
        large.push(1.0);
        assert_eq!((large.len(), large[3 << 20]), ((3 << 20) + 1, 1.0));
        assert!(!is_fallible());
    }
}
