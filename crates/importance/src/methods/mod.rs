//! The methods of row importance, one file or folder each.

mod aum;
mod auto;
mod data_oob;
mod el2n;
mod forgetting;
mod grad_norm;
mod influence;
mod knn_shapley;
mod loss;
mod self_confidence;
mod tracin;

pub use aum::Aum;
pub use auto::Auto;
pub use data_oob::DataOob;
pub use el2n::El2n;
pub use forgetting::Forgetting;
pub use grad_norm::GradNorm;
pub use influence::Influence;
pub use knn_shapley::KnnShapley;
pub use loss::Loss;
pub use self_confidence::SelfConfidence;
pub use tracin::Tracin;
