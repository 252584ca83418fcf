//! Services for the SQL functions: the model catalog, its cache on disk, loaded models, model workers, histories, selections, datasets.

pub mod cache;
pub mod cache_folder;
pub mod catalog;
pub mod dataset;
pub mod graph_file;
pub mod history;
pub mod loaded;
mod precision;
pub mod preload;
pub mod remote;
mod runners;
pub mod samples;
pub mod search_source;
pub mod selection;
pub mod synthesis_source;
pub mod worker;
