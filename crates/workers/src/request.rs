//! What a worker is asked, and what it answers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ndarray::Array2;

use crate::bytes::{Reader, Writer};
use embedding::TextGraph;
use onnx::runner::Ran;
use onnx::tensor::Tensor;
use runtime::error::{Error, Result};
use runtime::memory;

#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Where the graph is loaded from: on the CPU the folder of the prepared graph, on CUDA its file.
    pub graph: PathBuf,
    pub work: Work,
    /// Lanes that may work on it at a time.
    pub threads: usize,
}

/// The inputs of a run, by name.
pub type NamedInputs = Vec<(String, Tensor)>;

#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// Load the graph.
    Open,
    Texts(Arc<TextWork>),
    Runs(Arc<RunsWork>),
}

/// Texts with different tokens, sorted by their number.
#[derive(Clone, Debug, PartialEq)]
pub struct TextWork {
    pub graph: TextGraph,
    /// Texts in one run.
    pub max_batch: usize,
    /// Requests of one party may run together. A graph sees all texts of a run, and could tell one caller of another's.
    pub party: u64,
    ids: Vec<u32>,
    /// Where the ids of each text end.
    ends: Vec<u32>,
}

impl TextWork {
    pub fn new(graph: TextGraph, max_batch: usize, party: u64, texts: &[&[u32]]) -> Result<Self> {
        let (mut ids, mut ends) = (Vec::new(), Vec::new());
        for text in texts {
            memory::extend(&mut ids, text)?;
            memory::push(&mut ends, u32::try_from(ids.len()).map_err(|_| Error::OutOfRange("number of tokens"))?)?;
        }
        Ok(Self { graph, max_batch, party, ids, ends })
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The tokens of a text.
    pub fn text(&self, number: usize) -> &[u32] {
        let end = |number: usize| self.ends[number] as usize;
        let first = if number == 0 { 0 } else { end(number - 1) };
        &self.ids[first..end(number)]
    }

    /// The number of tokens of the texts from number `first`.
    pub fn tokens_from(&self, first: usize) -> usize {
        let before = first.checked_sub(1).map_or(0, |last| self.ends[last] as usize);
        self.ids.len() - before
    }

    /// The number of tokens of the longest text.
    pub fn longest(&self) -> usize {
        self.len().checked_sub(1).map_or(0, |last| self.text(last).len())
    }
}

/// Runs of a graph that do not depend on each other.
#[derive(Clone, Debug, PartialEq)]
pub struct RunsWork {
    pub runs: Vec<NamedInputs>,
    /// Names of outputs.
    pub wanted: Vec<String>,
    /// Return the memory of the runs to the system.
    pub give_back: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The size of the graph and its weights.
    Opened(u64),
    /// A vector for each text.
    Vectors(Vectors),
    Runs(Vec<Ran>),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vectors {
    /// [texts, dimensions]
    pub values: Array2<f32>,
    /// How many runs made them, with texts of others perhaps.
    pub runs: usize,
    /// How long those took: this request's share of them.
    pub took: Duration,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The run failed.
    Run(String),
    /// The graph is not where it was.
    Gone,
    /// There is no memory for it.
    Memory(String),
    /// CUDA is not available.
    NoCuda(String),
    /// ONNX Runtime could not be loaded.
    NoRuntime(String),
    Internal(String),
}

pub type Reply = std::result::Result<Answer, Failure>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::ModelRun { reason, .. } => Self::Run(reason),
            Error::CudaMissing(reason) => Self::NoCuda(reason),
            Error::Resources(reason) => Self::Memory(reason),
            Error::RuntimeMissing { reason, .. } => Self::NoRuntime(reason),
            other => Self::Internal(other.to_string()),
        }
    }
}

impl Request {
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut writer = Writer::default();
        writer.array(self.graph.as_os_str().as_encoded_bytes())?;
        writer.number(self.threads)?;
        match &self.work {
            Work::Open => writer.number(0)?,
            Work::Texts(work) => {
                writer.number(1)?;
                writer.text(&serde_json::to_string(&work.graph).map_err(|e| Error::Internal(e.to_string()))?)?;
                writer.number(work.max_batch)?;
                writer.number(work.party as usize)?;
                writer.array(&work.ids)?;
                writer.array(&work.ends)?;
            }
            Work::Runs(work) => {
                writer.number(2)?;
                writer.number(work.give_back.into())?;
                writer.number(work.wanted.len())?;
                work.wanted.iter().try_for_each(|output| writer.text(output))?;
                writer.number(work.runs.len())?;
                for run in &work.runs {
                    writer.number(run.len())?;
                    run.iter().try_for_each(|(name, tensor)| writer.text(name).and_then(|()| writer.tensor(tensor)))?;
                }
            }
        }
        Ok(writer.finish())
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let damaged = || Error::Internal("a request to a model worker is damaged".into());
        let mut reader = Reader::new(bytes);
        let graph = Path::new(&reader.text()?).to_owned();
        let threads = reader.number()?;
        let work = match reader.number()? {
            0 => Work::Open,
            1 => {
                let graph = serde_json::from_str(&reader.text()?).map_err(|_| damaged())?;
                let (max_batch, party) = (reader.number()?, reader.number()? as u64);
                let work = TextWork { graph, max_batch, party, ids: reader.array()?, ends: reader.array()? };
                let last = work.ends.last().map_or(0, |&end| end as usize);
                if work.is_empty() || !work.ends.is_sorted() || last != work.ids.len() {
                    return Err(damaged());
                }
                Work::Texts(Arc::new(work))
            }
            2 => {
                let give_back = reader.number()? != 0;
                let wanted = (0..reader.number()?).map(|_| reader.text()).collect::<Result<_>>()?;
                let run = |reader: &mut Reader| {
                    (0..reader.number()?).map(|_| Ok((reader.text()?, reader.tensor()?))).collect::<Result<_>>()
                };
                let runs = (0..reader.number()?).map(|_| run(&mut reader)).collect::<Result<Vec<_>>>()?;
                if runs.is_empty() {
                    return Err(damaged());
                }
                Work::Runs(Arc::new(RunsWork { runs, wanted, give_back }))
            }
            _ => return Err(damaged()),
        };
        Ok(Self { graph, work, threads })
    }
}

/// The bytes of an answer or a failure.
pub fn reply_to_bytes(reply: &Reply) -> Result<Vec<u8>> {
    let mut writer = Writer::default();
    let time = |writer: &mut Writer, took: Duration| writer.number(took.as_nanos() as usize);
    match reply {
        Ok(Answer::Opened(bytes)) => {
            writer.number(0)?;
            writer.number(*bytes as usize)?;
        }
        Ok(Answer::Vectors(Vectors { values, runs, took })) => {
            writer.number(1)?;
            writer.number(*runs)?;
            time(&mut writer, *took)?;
            writer.number(values.nrows())?;
            writer.number(values.ncols())?;
            match values.as_slice() {
                Some(values) => writer.array(values)?,
                None => writer.array(&values.iter().copied().collect::<Vec<_>>())?,
            }
        }
        Ok(Answer::Runs(runs)) => {
            writer.number(2)?;
            writer.number(runs.len())?;
            for (outputs, took) in runs {
                time(&mut writer, *took)?;
                writer.number(outputs.len())?;
                outputs.iter().try_for_each(|output| writer.tensor(output))?;
            }
        }
        Err(failure) => {
            let (kind, reason) = match failure {
                Failure::Run(reason) => (3, reason.as_str()),
                Failure::Gone => (4, ""),
                Failure::Memory(reason) => (5, reason.as_str()),
                Failure::NoCuda(reason) => (6, reason.as_str()),
                Failure::NoRuntime(reason) => (7, reason.as_str()),
                Failure::Internal(reason) => (8, reason.as_str()),
            };
            writer.number(kind)?;
            writer.text(reason)?;
        }
    }
    Ok(writer.finish())
}

/// What [`reply_to_bytes`] has written.
pub fn reply_from_bytes(bytes: &[u8]) -> Result<Reply> {
    let mut reader = Reader::new(bytes);
    let time = |reader: &mut Reader| Ok::<_, Error>(Duration::from_nanos(reader.number()? as u64));
    Ok(Ok(match reader.number()? {
        0 => Answer::Opened(reader.number()? as u64),
        1 => {
            let (runs, took) = (reader.number()?, time(&mut reader)?);
            let (rows, columns) = (reader.number()?, reader.number()?);
            Answer::Vectors(Vectors { values: memory::shaped(rows, columns, reader.array()?)?, runs, took })
        }
        2 => {
            let run = |reader: &mut Reader| {
                let took = time(reader)?;
                let outputs = (0..reader.number()?).map(|_| reader.tensor()).collect::<Result<_>>()?;
                Ok((outputs, took))
            };
            Answer::Runs((0..reader.number()?).map(|_| run(&mut reader)).collect::<Result<_>>()?)
        }
        kind => {
            let reason = reader.text()?;
            return Ok(Err(match kind {
                3 => Failure::Run(reason),
                4 => Failure::Gone,
                5 => Failure::Memory(reason),
                6 => Failure::NoCuda(reason),
                7 => Failure::NoRuntime(reason),
                8 => Failure::Internal(reason),
                _ => return Err(Error::Internal("an answer of a model worker is damaged".into())),
            }));
        }
    }))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use embedding::TextConfig;
    use onnx::inspect::Signature;

    pub fn text_graph() -> TextGraph {
        TextGraph::new(
            &TextConfig { output: "vectors".into(), normalize: false, ..Default::default() },
            &Signature::default(),
        )
    }

    pub fn texts(texts: &[&[u32]]) -> Work {
        Work::Texts(Arc::new(TextWork::new(text_graph(), 32, 1, texts).unwrap()))
    }

    pub fn run(values: &[f32]) -> NamedInputs {
        vec![("x".into(), ndarray::Array::from_vec(values.to_vec()).into())]
    }

    pub fn runs(runs: Vec<NamedInputs>) -> Work {
        Work::Runs(Arc::new(RunsWork { runs, wanted: vec!["y".into()], give_back: false }))
    }

    #[test]
    fn requests_and_outcomes_come_back() {
        for work in [Work::Open, texts(&[&[], &[1, 2], &[3, 4, 5]]), runs(vec![run(&[1.0]), run(&[])])] {
            let request = Request { graph: "/a folder/红".into(), work, threads: 7 };
            assert_eq!(Request::from_bytes(&request.to_bytes().unwrap()).unwrap(), request);
        }
        let took = Duration::from_micros(12);
        for outcome in [
            Ok(Answer::Opened(1 << 40)),
            Ok(Answer::Vectors(Vectors { values: ndarray::array![[1f32, 2.0], [3.0, 4.0]], runs: 3, took })),
            Ok(Answer::Runs(vec![(vec![ndarray::array![1i64].into()], took), (vec![], took)])),
            Err(Failure::Run("bad".into())),
            Err(Failure::Gone),
            Err(Failure::Memory("none".into())),
            Err(Failure::NoCuda("no device".into())),
            Err(Failure::NoRuntime("no file".into())),
            Err(Failure::Internal("?".into())),
        ] {
            assert_eq!(reply_from_bytes(&reply_to_bytes(&outcome).unwrap()).unwrap(), outcome);
        }
    }

    #[test]
    fn a_damaged_request_is_an_error() {
        let request = Request { graph: "/g".into(), work: texts(&[&[1], &[2, 3]]), threads: 1 };
        let bytes = request.to_bytes().unwrap();
        assert!((0..bytes.len()).all(|end| Request::from_bytes(&bytes[..end]).is_err()));
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 0x81;
            if let Ok(Request { work: Work::Texts(work), .. }) = Request::from_bytes(&changed) {
                assert_eq!((0..work.len()).map(|i| work.text(i).len()).sum::<usize>(), work.ids.len());
            }
        }
    }
}
