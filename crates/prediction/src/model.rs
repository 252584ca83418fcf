//! A predictor as it is stored and as it serves.

use bytes::Bytes;
use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::calibration::Calibration;
use crate::graph;
use crate::outcome::Outcome;
use kernels::matrix::{for_each_rows, rows_mut};
use onnx::stored::{DataWriter, Files};
use runtime::error::{Error, Result};
use runtime::jobs::Relay;
use runtime::memory;
use runtime::progress::Progress;
use tabular::trees::{Binning, Parts, Scorer};
use tabular::{Encoder, Table};

/// Rows that one thread predicts at a time.
const PART: usize = 4096;
/// The key of the graph's metadata.
const STORED: &str = "pg_reco.predictor";

/// A trained predictor.
pub struct Model {
    stored: Stored,
    scorer: Scorer,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    label: String,
    outcome: Outcome,
    encoder: Encoder,
    binning: Binning,
    calibration: Calibration,
}

impl Model {
    /// `None` if the parts contradict each other: those from a file may say anything.
    pub fn new(
        label: String,
        outcome: Outcome,
        encoder: Encoder,
        binning: Binning,
        scorer: Scorer,
        calibration: Calibration,
    ) -> Option<Self> {
        Self::of(Stored { label, outcome, encoder, binning, calibration }, scorer)
    }

    fn of(stored: Stored, scorer: Scorer) -> Option<Self> {
        let outputs = match &stored.outcome {
            Outcome::Classes { names } => names.len(),
            Outcome::Number => 1,
        };
        let is_sound = stored.encoder.is_sound()
            && stored.binning.is_sound(stored.encoder.features())
            && scorer.outputs() == outputs
            && scorer.width() == stored.binning.columns().max(1);
        is_sound.then_some(Self { stored, scorer })
    }

    /// The column that it predicts.
    pub fn label(&self) -> &str {
        &self.stored.label
    }

    pub fn outcome(&self) -> &Outcome {
        &self.stored.outcome
    }

    /// The columns that it reads.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.stored.encoder.rules().map(|(name, ..)| name)
    }

    /// Number of classes, or 1.
    pub fn outputs(&self) -> usize {
        self.scorer.outputs()
    }

    pub fn features(&self) -> usize {
        self.stored.encoder.features()
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.scorer.bytes()
    }

    /// The prediction [outputs] of a row from its scores: probabilities of the classes, or a number.
    pub(crate) fn predict_scores(&self, scores: &mut [f32], out: &mut [f32]) {
        self.stored.calibration.apply(scores);
        self.scorer.predict(scores, out);
    }

    /// Predictions [rows, outputs] of a table, which a query named `what` gave. Time: trees × depth a row. Memory: the features, and a byte for
    /// each column and row.
    pub fn predict(&self, what: &str, table: &Table, threads: usize, progress: &dyn Progress) -> Result<Array2<f32>> {
        let features = self.stored.encoder.encode_as(what, table, progress)?;
        let binned = self.stored.binning.apply(&features, threads, progress)?;
        drop(features);
        let mut out = memory::matrix(table.rows(), self.outputs(), 0f32)?;
        let padded = if binned.columns() == 0 { self.scorer.padded(table.rows())? } else { Vec::new() };
        let codes = if binned.columns() == 0 { &padded[..] } else { binned.codes() };
        let (width, n) = (self.scorer.width(), self.scorer.scores());
        let relay = Relay::new(progress);
        for_each_rows(out.view_mut(), PART, threads, &relay, Vec::new, |scores: &mut Vec<f32>, number, part| {
            let (first, rows) = (number * PART, part.nrows());
            scores.clear();
            scores.resize(rows * n, 0.0);
            self.scorer.score(&codes[first * width..(first + rows) * width], scores, &relay.signal)?;
            let scored = scores.chunks_exact_mut(n).zip(rows_mut(part));
            scored.for_each(|(scores, out)| self.predict_scores(scores, out));
            Ok(())
        })?;
        Ok(out)
    }

    /// The graph and the data file.
    pub fn pack(&self) -> Result<(Vec<u8>, Vec<u8>)> {
        let Stored { encoder, binning, outcome, calibration, .. } = &self.stored;
        let mut graph = graph::of(encoder, binning, &self.scorer, outcome, calibration)?;
        let json = |e: serde_json::Error| Error::Internal(format!("a predictor cannot be written: {e}"));
        graph.metadata(STORED, serde_json::to_string(&self.stored).map_err(json)?);
        let mut data = DataWriter::default();
        let parts = self.scorer.parts();
        data.tensor("columns", &[parts.columns.len()], &parts.columns);
        data.tensor("codes", &[parts.codes.len()], &parts.codes);
        data.tensor("left", &[parts.left.len()], &parts.left);
        data.tensor("values", &[parts.values.len()], &parts.values);
        data.tensor("roots", &[parts.roots.len()], &parts.roots);
        data.tensor("base", &[parts.base.len()], &parts.base);
        data.tensor("unit", &[1], [parts.unit]);
        Ok((graph.encode()?, data.finish()?))
    }

    /// Opens the files of a model. `name` is used in messages.
    pub fn open(name: &str, onnx: Bytes, data: Bytes) -> Result<Self> {
        let files = Files::open(name, onnx, &data)?;
        let stored: Stored = serde_json::from_str(files.metadata(STORED)?)
            .map_err(|e| files.damaged(format!("its description cannot be read: {e}")))?;
        let u32s = |name: &str| Ok::<_, Error>(files.tensor::<u32, 1>(name)?.1.to_vec());
        let f32s = |name: &str| Ok::<_, Error>(files.tensor::<f32, 1>(name)?.1.to_vec());
        let outputs = match &stored.outcome {
            Outcome::Classes { names } => names.len(),
            Outcome::Number => 1,
        };
        let parts = Parts {
            columns: u32s("columns")?,
            codes: u32s("codes")?,
            left: u32s("left")?,
            values: f32s("values")?,
            roots: u32s("roots")?,
            base: f32s("base")?,
            unit: f32s("unit")?.first().copied().unwrap_or(1.0),
            outputs,
            width: stored.binning.columns(),
        };
        let scorer = Scorer::from_parts(parts).ok_or_else(|| files.damaged("its trees are inconsistent"))?;
        Self::of(stored, scorer).ok_or_else(|| files.damaged("its columns and its trees do not fit together"))
    }
}
