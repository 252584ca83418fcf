//! Cryptographically strong random numbers.

use pgrx::pg_sys;

use runtime::error::{Error, Result};

/// New random bytes from the operating system.
pub fn secret() -> Result<[u8; 32]> {
    let mut secret = [0; 32];
    // SAFETY: fills as many bytes as the buffer has.
    let drawn = unsafe { pg_sys::pg_strong_random(secret.as_mut_ptr().cast(), secret.len()) };
    if drawn { Ok(secret) } else { Err(Error::Resources("could not get random numbers from the system".into())) }
}
