//! The precision of embedding models on CUDA: half, where a trial shows that a model's vectors stay those of the CPU.

use std::fs;
use std::path::{Path, PathBuf};

use ndarray::Array2;

use super::cache;
use super::graph_file::{GraphFile, GraphKind};
use super::runners::{on_cpu, on_cuda};
use embedding::text_graph::TextRunner;
use kernels::cosine::cosine;
use onnx::prepared;
use onnx::session::{Precision, SessionOptions};
use runtime::error::{Error, Result};
use runtime::progress::{Progress, Trial};
use runtime::sealed::{self, failed};

/// The least cosine of a vector in half precision with the CPU's.
const MIN_COSINE: f32 = 0.9999;

/// The file that records the outcome of a trial, with the least cosine or the reason.
const KEPT: &str = "kept";
const REFUSED: &str = "refused";

/// The vectors that a graph gives for trial inputs, a row each.
pub type Vectors<'a> = dyn Fn(Box<dyn TextRunner>, &dyn Progress) -> Result<Array2<f32>> + 'a;

/// The graph to run on CUDA in place of `stored`, whose file is `source`, and its file. `vectors` is there for models whose outputs are
/// vectors. The outcome of a trial is kept in the cache.
pub fn choose(
    stored: &GraphFile,
    source: &Path,
    vectors: Option<&Vectors>,
    options: &SessionOptions,
    progress: &dyn Progress,
) -> Result<(GraphFile, PathBuf)> {
    let as_stored = || (stored.clone(), source.to_owned());
    let (Precision::Auto, Some(vectors), true) = (options.precision, vectors, options.environment.knows_cuda()) else {
        return Ok(as_stored());
    };
    let half = GraphFile::new(&stored.entry, GraphKind::Half);
    let Some(file) = half.find(progress)? else { return Ok(as_stored()) };
    let library = prepared::key(&options.environment.library);
    let judged = file.with_file_name(format!("{library}-cuda{}-judged", options.device_id));
    sealed::ensure(&judged, None, progress, |aside| {
        cache::discard_at_abort(aside);
        let (name, said) = match judge((stored, source), (&half, &file), vectors, options, &Trial(progress))? {
            Ok(least) => (KEPT, least.to_string()),
            Err(reason) => (REFUSED, reason),
        };
        let path = aside.join(name);
        fs::write(&path, said).map_err(failed("write", &path))
    })?;
    Ok(if judged.join(KEPT).exists() { (half, file) } else { as_stored() })
}

/// The least cosine of the vectors in half precision with those of the CPU, or why it is not used.
fn judge(
    (stored, source): (&GraphFile, &Path),
    (half, file): (&GraphFile, &Path),
    vectors: &Vectors,
    options: &SessionOptions,
    progress: &dyn Progress,
) -> Result<std::result::Result<f32, String>> {
    let ours = on_cuda(half, file, options, progress).and_then(|runner| vectors(runner, progress));
    let ours = match ours {
        Ok(ours) => ours,
        Err(Error::RefusedOnnx { reason, .. } | Error::ModelRun { reason, .. }) => return Ok(Err(reason)),
        Err(other) => return Err(other),
    };
    let theirs = vectors(on_cpu(stored, source, options, progress)?, progress)?;
    Ok(least_cosine(&ours, &theirs))
}

fn least_cosine(ours: &Array2<f32>, theirs: &Array2<f32>) -> std::result::Result<f32, String> {
    if ours.dim() != theirs.dim() || ours.is_empty() {
        return Err(format!("vectors of shape {:?} instead of {:?}", ours.dim(), theirs.dim()));
    }
    let rows = |vectors: &Array2<f32>| vectors.rows().into_iter().map(|row| row.to_vec()).collect::<Vec<_>>();
    let cosines = rows(ours).into_iter().zip(rows(theirs)).map(|(ours, theirs)| cosine(&ours, &theirs));
    // A vector that is not finite has no cosine.
    let least = cosines.fold(1f32, |least, cosine| if cosine.is_nan() { f32::NAN } else { least.min(cosine) });
    if least >= MIN_COSINE { Ok(least) } else { Err(format!("a cosine of {least} with the CPU's vector")) }
}
