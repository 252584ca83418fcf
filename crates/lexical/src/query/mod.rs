//! Queries: what is written in them, and what is looked up for them.

pub mod edits;
pub mod expand;
pub mod parse;
pub mod plan;
pub mod planner;
pub mod segment;
pub mod steps;
pub mod synonyms;
