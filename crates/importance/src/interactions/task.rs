//! What a method is given: the interactions to score and the pairs to judge them by.

use kernels::Csr;
use runtime::progress::Progress;

/// The interactions to score, with everything a method needs to score them.
#[derive(Clone, Copy)]
pub struct Task<'a> {
    /// [users, items]
    pub by_user: &'a Csr,
    /// Held-out pairs of a user and an item, for the methods that need them.
    pub held_out: Option<&'a [(u32, u32)]>,
    pub threads: usize,
    pub progress: &'a dyn Progress,
}
