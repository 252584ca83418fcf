//! Large blocks whose size comes from the data: where there is no memory for them, that is an error.

use std::cell::Cell;

use crate::error::{Error, Result};

thread_local! {
    static FALLIBLE: Cell<bool> = const { Cell::new(false) };
}

/// Whether the allocation under way may fail: its caller deals with it.
pub fn is_fallible() -> bool {
    FALLIBLE.get()
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
        assert!(!is_fallible());
    }
}
