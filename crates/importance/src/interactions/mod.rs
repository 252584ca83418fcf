//! Which interactions of a recommender's source matter, and which look like chance: a score for each pair of a user and an item,
//! higher for more valuable.
//!
//! | method | score of an interaction | low means |
//! |---|---|---|
//! | [`mean_loss`] | −loss, mean over the epochs of small factor models (Wang 2021) | the models never come to expect it |
//! | [`grad_norm`] | −‖∂loss/∂(p_u, q_i, b_i)‖, mean over the same epochs (Paul 2021) | it pulls hard on the factors |
//! | [`leave_self_out`] | probability of a walk from the user's other items to it (Paudel 2017) | other users do not connect it to the rest |
//! | [`knn_shapley`] | its Shapley value among its user's nearest neighbours of held-out items (Jia 2019) | it speaks for what is not chosen |
//! | [`auto`] | mean of the ranks by `mean_loss` and `leave_self_out` | both find it strange |
//!
//! Weights say no more than which pairs there are: each pair of the source's `by_user` counts once. What a user turned down (weights that
//! sum to less than 0) is no interaction and gets no score.

mod auto;
mod factors;
mod grad_norm;
mod knn_shapley;
mod leave_self_out;
mod mean_loss;

use kernels::Csr;
use runtime::error::{Error, Result};
use runtime::options::Options;
use runtime::progress::Progress;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Auto,
    MeanLoss,
    GradNorm,
    LeaveSelfOut,
    KnnShapley,
}

impl Method {
    pub const ALL: [Self; 5] = [Self::Auto, Self::MeanLoss, Self::GradNorm, Self::LeaveSelfOut, Self::KnnShapley];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::MeanLoss => "mean_loss",
            Self::GradNorm => "grad_norm",
            Self::LeaveSelfOut => "leave_self_out",
            Self::KnnShapley => "knn_shapley",
        }
    }

    pub fn from_name(name: &str) -> Result<Self> {
        let known = || Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|method| method.name() == name).ok_or_else(|| Error::UnknownName {
            what: "method",
            name: name.into(),
            known: known(),
        })
    }

    pub fn needs_validation(self) -> bool {
        self == Self::KnnShapley
    }
}

/// The interactions to score, and what is given besides.
#[derive(Clone, Copy)]
pub struct Task<'a> {
    /// [users, items]
    pub by_user: &'a Csr,
    /// Pairs of a user and an item that are held out, for the methods that need them.
    pub held_out: Option<&'a [(u32, u32)]>,
    pub threads: usize,
    pub progress: &'a dyn Progress,
}

/// A method with its options, read before any work is done.
#[derive(Clone, Copy, Debug)]
pub enum Plan {
    Auto(auto::Parameters),
    MeanLoss(factors::Parameters),
    GradNorm(factors::Parameters),
    LeaveSelfOut(leave_self_out::Parameters),
    KnnShapley(knn_shapley::Parameters),
}

impl Plan {
    pub fn read(method: Method, options: &mut Options) -> Result<Self> {
        Ok(match method {
            Method::Auto => Self::Auto(auto::Parameters::read(options)?),
            Method::MeanLoss => Self::MeanLoss(factors::Parameters::read(options)?),
            Method::GradNorm => Self::GradNorm(factors::Parameters::read(options)?),
            Method::LeaveSelfOut => Self::LeaveSelfOut(leave_self_out::Parameters::read(options)?),
            Method::KnnShapley => Self::KnnShapley(knn_shapley::Parameters::read(options)?),
        })
    }

    /// A score for each entry of the task's `by_user`.
    pub fn score(&self, task: &Task) -> Result<Vec<f64>> {
        match self {
            Self::Auto(parameters) => auto::score(task, parameters),
            Self::MeanLoss(parameters) => mean_loss::score(task, parameters),
            Self::GradNorm(parameters) => grad_norm::score(task, parameters),
            Self::LeaveSelfOut(parameters) => leave_self_out::score(task, parameters),
            Self::KnnShapley(parameters) => knn_shapley::score(task, parameters),
        }
    }
}

#[cfg(test)]
mod tests;
