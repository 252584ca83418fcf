//! Model workers, without PostgreSQL: requests and answers as bytes, what waits, and the lanes that run it.
//!
//! A worker owns the sessions of all connections. A connection hands over token ids or tensors ([`request::Request`]) and gets vectors or
//! tensors back ([`request::Answer`]). Requests wait in a [`queue`]. A lane is a thread that runs a graph on one processor; one that becomes
//! free takes what waits, several requests of one text model at once ([`crew`]). A request that finds the worker idle runs on all processors.

pub mod bytes;
pub mod crew;
mod graphs;
mod lane;
pub mod queue;
pub mod request;
