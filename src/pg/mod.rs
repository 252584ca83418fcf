//! The interface to PostgreSQL: rows, sources, interrupts, roles, errors, settings, shared memory, latches, window functions, aggregates. It does not
//! know about models.

pub mod aggregate;
pub mod arrays;
pub mod bell;
pub mod context;
pub mod cursors;
pub mod declared;
pub mod errors;
pub mod foreign;
pub mod id_type;
pub mod identity;
pub mod ids;
pub mod interrupts;
pub mod json;
pub mod json_rows;
pub mod latch;
pub mod memory;
pub mod roles;
pub mod row;
pub mod row_type;
pub mod secret;
pub mod segment;
pub mod settings;
pub mod shared;
pub mod source;
pub mod transaction;
pub mod window;
