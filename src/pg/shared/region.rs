//! A table of fixed rows in shared memory, behind a lock.

use std::ffi::CStr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use pgrx::pg_sys;

/// A type that can be stored in shared memory.
///
/// # Safety
/// Bytes that are all zero must be a value of the type, and it must hold no pointer.
pub unsafe trait Row: 'static {}

/// `count` rows, zeroed at server start. pgrx's own `PgLwLock` fixes the number of rows at compile time, builds the table on the stack, and
/// cannot tell whether it exists.
pub struct Table<T> {
    name: &'static CStr,
    count: AtomicUsize,
    /// Null if there is no shared memory. Set before the first fork, so the address is the same in every process.
    rows: AtomicPtr<T>,
    lock: AtomicPtr<pg_sys::LWLock>,
}

impl<T: Row> Table<T> {
    pub const fn new(name: &'static CStr) -> Self {
        Self {
            name,
            count: AtomicUsize::new(0),
            rows: AtomicPtr::new(std::ptr::null_mut()),
            lock: AtomicPtr::new(std::ptr::null_mut()),
        }
    }

    /// # Safety
    /// Must be called while PostgreSQL accepts requests for shared memory.
    pub unsafe fn request(&self, count: usize) {
        self.count.store(count, Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe {
            pg_sys::RequestAddinShmemSpace(count * size_of::<T>() + pg_sys::MAXIMUM_ALIGNOF as usize);
            pg_sys::RequestNamedLWLockTranche(self.name.as_ptr(), 1);
        }
    }

    /// # Safety
    /// Must be called after PostgreSQL has allocated the shared memory of `request`. This happens again after a crash.
    pub unsafe fn start(&self) {
        let count = self.count.load(Ordering::Relaxed);
        // SAFETY: only the postmaster (or a single-user server) comes here, before it has children: nobody else looks at
        // the memory. PostgreSQL aligns it for any type, and all zeros is a value of a `Row`.
        unsafe {
            let mut found = false;
            let rows = pg_sys::ShmemInitStruct(self.name.as_ptr(), count * size_of::<T>(), &mut found).cast::<T>();
            rows.write_bytes(0, count);
            let lock = &raw mut (*pg_sys::GetNamedLWLockTranche(self.name.as_ptr())).lock;
            self.lock.store(lock, Ordering::Relaxed);
            self.rows.store(rows, Ordering::Relaxed);
        }
    }

    /// Whether there is shared memory.
    pub fn is_there(&self) -> bool {
        !self.rows.load(Ordering::Relaxed).is_null()
    }

    /// The rows without the lock, for any thread to change atomics in them. `None` if there is no shared memory.
    pub fn unlocked(&self) -> Option<&'static [T]> {
        let rows = self.rows.load(Ordering::Relaxed);
        // SAFETY: null, or rows that live as long as the server. Only `exclusive` gives them away to be written, which such a table does not use.
        (!rows.is_null()).then(|| unsafe { std::slice::from_raw_parts(rows, self.count.load(Ordering::Relaxed)) })
    }

    /// Calls `body` with the rows under a shared lock: it may read them and change atomics. `body` must be short and must not call PostgreSQL.
    /// `None` if there is no shared memory.
    pub fn share<R>(&self, body: impl FnOnce(&[T]) -> R) -> Option<R> {
        self.locked(pg_sys::LWLockMode::LW_SHARED, |rows, count| {
            // SAFETY: the memory has `count` rows, and nobody writes to them while the lock is shared.
            body(unsafe { std::slice::from_raw_parts(rows, count) })
        })
    }

    /// Calls `body` with the rows under an exclusive lock. Otherwise as [`share`](Self::share).
    pub fn exclusive<R>(&self, body: impl FnOnce(&mut [T]) -> R) -> Option<R> {
        self.locked(pg_sys::LWLockMode::LW_EXCLUSIVE, |rows, count| {
            // SAFETY: the memory has `count` rows, which are this process's alone while it has the lock.
            body(unsafe { std::slice::from_raw_parts_mut(rows, count) })
        })
    }

    fn locked<R>(&self, mode: pg_sys::LWLockMode::Type, body: impl FnOnce(*mut T, usize) -> R) -> Option<R> {
        struct Release(*mut pg_sys::LWLock);
        impl Drop for Release {
            fn drop(&mut self) {
                // SAFETY: the lock was acquired below, and nothing in between raises a PostgreSQL error, which would have
                // released it.
                unsafe { pg_sys::LWLockRelease(self.0) };
            }
        }
        if !self.is_there() {
            return None;
        }
        let lock = self.lock.load(Ordering::Relaxed);
        // SAFETY: the lock lies in shared memory and lives as long as the server.
        unsafe { pg_sys::LWLockAcquire(lock, mode) };
        let _release = Release(lock);
        Some(body(self.rows.load(Ordering::Relaxed), self.count.load(Ordering::Relaxed)))
    }
}
