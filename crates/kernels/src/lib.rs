//! Dense `f32` kernels on the widest vectors the processor has, and the small decompositions the trainers need.
//!
//! Matrices are `ndarray`'s, rows one after the other ([`matrix`]); kernels read them as slices. A kernel is written once over
//! [`vector::Vector`] and compiled for AVX-512, AVX2 with FMA, and the baseline of the target (NEON on aarch64, SSE2 on x86-64); the choice is
//! made at run time, per call, so a kernel should do at least a few hundred nanoseconds of work.

pub mod bytes;
pub mod cholesky;
pub mod cholesky_f32;
pub mod cosine;
mod csr;
pub mod decompose;
pub mod dense;
pub mod dot;
pub mod inverse;
pub mod matrix;
pub mod propagate;
pub mod randomized_svd;
pub mod statistics;
pub mod vector;

pub use csr::{CHECK_EVERY, Csr, CsrView};
