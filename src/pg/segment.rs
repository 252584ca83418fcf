//! Segments of dynamic shared memory.

use pgrx::pg_sys;

use runtime::error::{Error, Result};

/// A segment that is mapped into this process until it is dropped. The last process that has it mapped removes it.
pub struct Segment(*mut pg_sys::dsm_segment);

impl Segment {
    /// A new segment of `size` bytes.
    pub fn create(size: usize) -> Result<Self> {
        // SAFETY: raises an error where the system has no room, and returns null where there are too many segments.
        let segment = unsafe { pg_sys::dsm_create(size, pg_sys::DSM_CREATE_NULL_IF_MAXSEGMENTS as i32) };
        match segment.is_null() {
            true => Err(Error::Resources("too many dynamic shared memory segments".into())),
            false => Ok(Self(segment)),
        }
    }

    /// The segment of another process; `None` if it is gone.
    pub fn attach(handle: u32) -> Option<Self> {
        // SAFETY: returns null for a handle that is not, or no longer, one of a segment.
        let segment = unsafe { pg_sys::dsm_attach(handle) };
        (!segment.is_null()).then_some(Self(segment))
    }

    pub fn handle(&self) -> u32 {
        // SAFETY: the segment is mapped.
        unsafe { pg_sys::dsm_segment_handle(self.0) }
    }

    /// Where it lies, and how many bytes it has.
    fn bytes(&self) -> (*mut u8, usize) {
        // SAFETY: the segment is mapped.
        unsafe { (pg_sys::dsm_segment_address(self.0).cast(), pg_sys::dsm_segment_map_length(self.0)) }
    }

    pub fn size(&self) -> usize {
        self.bytes().1
    }

    /// The first `size` bytes, copied: another process may write to the segment.
    pub fn read(&self, size: usize) -> Result<Vec<u8>> {
        let (address, bytes) = self.bytes();
        let size = size.min(bytes);
        let mut copy = Vec::new();
        runtime::memory::reserve(&mut copy, size)?;
        // SAFETY: as many bytes are mapped, and there is room for them.
        unsafe {
            std::ptr::copy_nonoverlapping(address, copy.as_mut_ptr(), size);
            copy.set_len(size);
        }
        Ok(copy)
    }

    /// Writes `bytes`, of which there must be room for all.
    pub fn write(&self, bytes: &[u8]) {
        let (address, size) = self.bytes();
        // SAFETY: no more bytes than are mapped.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), address, bytes.len().min(size)) };
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: mapped by this process. If an error ends the transaction this happens before PostgreSQL releases what is left.
        unsafe { pg_sys::dsm_detach(self.0) };
    }
}
