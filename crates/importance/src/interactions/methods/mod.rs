//! The methods of interaction importance, one file each.

mod auto;
mod grad_norm;
mod knn_shapley;
mod leave_self_out;
mod mean_loss;

pub use auto::Auto;
pub use grad_norm::GradNorm;
pub use knn_shapley::KnnShapley;
pub use leave_self_out::LeaveSelfOut;
pub use mean_loss::MeanLoss;
