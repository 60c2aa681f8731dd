//! Page-aligned zeroed memory that the kernel is told about: the buffer ring and its buffers.

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::io;
use std::ptr::NonNull;

/// An anonymous private mapping; its pages become resident when first touched.
pub(super) struct Pages {
    base: NonNull<u8>,
    bytes: usize,
}

impl Pages {
    pub(super) fn map(bytes: usize) -> io::Result<Pages> {
        let (access, kind) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: a new anonymous mapping at an address of the kernel's choice aliases
        // nothing; it belongs to this value until `drop` unmaps it.
        let base = unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, access, kind)? };
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Pages { base, bytes })
    }

    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// The address of byte `offset`.
    pub(super) fn at(&self, offset: usize) -> NonNull<u8> {
        assert!(offset < self.bytes, "offset past the mapping");
        // SAFETY: the offset is inside the mapping, checked above.
        unsafe { self.base.add(offset) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length and unmapped once. The driver drops its
        // ring, with everything in flight cancelled, before its pages.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.bytes) };
        debug_assert!(unmapped.is_ok());
    }
}
