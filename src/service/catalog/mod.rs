//! Models as rows: finding, reading, writing, granting.
//!
//! The tables belong to the extension's owner and nobody else may touch them: each function here checks what the caller
//! may do, then reads or writes as that owner. Queries name every object and operator by schema, since the caller's
//! `search_path` is in force.

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
