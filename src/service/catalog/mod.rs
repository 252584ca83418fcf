//! The model catalog: finding, reading, storing and granting models.
//!
//! The tables belong to the extension's owner, and no other role has privileges on them. Each function here checks the caller's privileges,
//! then reads or writes as that owner. All names and operators in queries are schema-qualified, since the caller's `search_path` is in
//! effect.

mod entry;
mod lookup;
mod privilege;
mod store;
mod tables;
pub mod versions;

pub use entry::{DATA_FILE, Entry, ONNX_FILE, Stamp, TOKENIZER_FILE, Task};
pub use lookup::{damaged, find, read_file, stamp};
pub use privilege::{Privilege, grant, name_of, require_author, revoke, role, with_visible_statistics};
pub use store::{NewVersion, drop, insert, promote};
pub use tables::require_writable;
