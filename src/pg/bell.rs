//! Wakes the main thread of a process from its other threads, which must not call PostgreSQL.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use runtime::error::{Error, Result};

pub struct Bell(OwnedFd);

impl Bell {
    pub fn new() -> Result<Self> {
        // SAFETY: makes a file of this process, which is closed when dropped.
        let file = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if file < 0 {
            return Err(Error::Resources(format!("could not create an event: {}", io::Error::last_os_error())));
        }
        // SAFETY: the file was opened above, and nobody else has it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(file) }))
    }

    /// Wakes the main thread, from any thread.
    pub fn ring(&self) {
        let one = 1u64;
        // SAFETY: writes eight bytes to an open file. A counter that is full wakes as well.
        unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
    }

    /// Forgets that it rang.
    pub fn hear(&self) {
        let mut count = 0u64;
        // SAFETY: reads eight bytes into a number; returns at once where it did not ring.
        unsafe { libc::read(self.0.as_raw_fd(), (&raw mut count).cast(), size_of::<u64>()) };
    }

    /// The file that can be read after it rang.
    pub fn file(&self) -> i32 {
        self.0.as_raw_fd()
    }
}
