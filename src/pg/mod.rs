//! PostgreSQL as this project needs it: errors, interrupts, settings, the model catalog, its cache on disk, queries as
//! sources of rows. The only modules that call PostgreSQL besides `sql`.

pub mod aggregate;
pub mod arrays;
pub mod cache;
pub mod catalog;
pub mod context;
pub mod cursors;
pub mod dataset;
pub mod declared;
pub mod errors;
pub mod foreign;
pub mod history;
pub mod identity;
pub mod ids;
pub mod interrupts;
pub mod json;
pub mod json_rows;
pub mod loaded;
pub mod memory;
pub mod preload;
pub mod roles;
pub mod row;
pub mod row_type;
pub mod samples;
pub mod secret;
pub mod selection;
pub mod settings;
pub mod shared;
pub mod source;
pub mod synthesis_source;
pub mod transaction;
pub mod versions;
pub mod window;
