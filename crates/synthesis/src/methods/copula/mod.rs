//! `gaussian_copula`: the distribution of each field, and a correlation for each pair of fields (Nelsen 2006, 2.3; for
//! tables Patki et al. 2016).
//!
//! Each field is cut into cells of a standard normal variable; the variables of all fields are jointly normal with
//! correlation `R = L Lᵀ`. A row is `z = L ε` with independent normal numbers ε, and the value of each field is that of
//! the cell of its z. Categories are ordered by the mean of the label among their rows, or by frequency if there is no
//! label, so that monotone relations with the label are kept.
//!
//! It learns from at most 262,144 rows, evenly drawn; shares of categories are those of all rows. NULL is a cell of its
//! own. Time: O(rows · fields²) to learn, O(fields² + fields · log cells) a row. Memory: 4 bytes a row and field, 40
//! bytes a cell.
//!
//! The graph takes `normal`, float64 [n, fields].

mod correlation;
mod graph;
mod margin;
mod normal;

use serde_json::{Map, json};

use crate::{Draw, Field, FieldKind, Frame, Generator, Parts, RunGraph, Synthesizer, Task, Values};
use kernels::dot::dot;
use kernels::matrix::flat;
use margin::Margin;
use onnx::stored::{DataWriter, Files};
use runtime::draw;
use runtime::error::{Error, Result};
use runtime::jobs::jobs;
use runtime::memory;
use runtime::options::Options;
use runtime::parallel::for_each_chunk;
use runtime::progress::Progress;
use tabular::NONE;

/// Rows that distributions and correlations are learned from.
const SAMPLE: usize = 1 << 18;
/// Rows whose products are summed in single precision.
const SUMMED: usize = 1024;
/// Prior weight, in rows, of the overall mean of the label.
const PRIOR: f64 = 1.0;
const CHUNK_ROWS: usize = 256;

/// `gaussian_copula`, see the [module](self).
pub struct GaussianCopula;

impl Synthesizer for GaussianCopula {
    fn name(&self) -> &'static str {
        "gaussian_copula"
    }

    fn train(&self, task: &Task, options: &mut Options) -> Result<Parts> {
        train(task, options)
    }

    fn open(&self, files: &Files, fields: &[Field]) -> Result<Box<dyn Generator>> {
        open(files, fields)
    }
}

fn train(task: &Task, _options: &mut Options) -> Result<Parts> {
    if task.rows.rows == 0 {
        return Err(Error::EmptySource(String::new()));
    }
    let (d, fields, columns) = (task.fields.len(), task.fields, &task.rows.columns);
    let rows = sample(task.rows.rows, task.seed)?;
    let label = match task.label {
        Some(label) => {
            let margin = margin(&columns[label], fields[label].kind, &rows, None)?;
            Some((label, scores(&margin, &columns[label], &rows)?, margin))
        }
        None => None,
    };
    let of_label = label.as_ref().map(|(_, scores, _)| &scores[..]);
    let learned = jobs(d, task.threads, task.progress, ("distributions", d), |signal, field| {
        signal.check()?;
        let values = &columns[field];
        if let Some((_, scores, margin)) = label.as_ref().filter(|(label, ..)| *label == field) {
            return Ok((margin.clone(), scores.clone()));
        }
        let margin = margin(values, fields[field].kind, &rows, of_label)?;
        let scores = scores(&margin, values, &rows)?;
        signal.finished(1);
        Ok((margin, scores))
    })?;
    let (margins, scores): (Vec<Margin>, Vec<Vec<f32>>) = learned.into_iter().unzip();
    let correlations = correlations(&margins, &scores, task.threads, task.progress)?;
    drop(scores);
    let correlations = memory::shaped(d, d, correlations)?;
    let factor = correlation::factor(correlations.view(), task.progress)?;
    let cells: usize = margins.iter().map(|margin| margin.cells.len()).sum();
    let figures = Map::from_iter([("cells".to_owned(), json!(cells))]);
    Ok(Parts {
        graph: graph::graph(&margins, flat(factor.view()), d),
        data: DataWriter::default(),
        figures,
        released: None,
    })
}

/// The rows to learn from: all, or one drawn from each of [`SAMPLE`] equal parts.
fn sample(rows: usize, seed: u64) -> Result<Vec<u32>> {
    let taken = rows.min(SAMPLE);
    let mut sample = Vec::new();
    memory::reserve(&mut sample, taken)?;
    sample.extend((0..taken).map(|i| {
        let (from, to) = (i * rows / taken, (i + 1) * rows / taken);
        (from + draw::below(seed, i as u64, to - from)) as u32
    }));
    Ok(sample)
}

/// The margin of a field. `of_label` [rows] are scores of the label, by which categories are ordered.
fn margin(values: &Values, kind: FieldKind, rows: &[u32], of_label: Option<&[f32]>) -> Result<Margin> {
    match values {
        Values::Numbers(numbers) => {
            let mut known = Vec::new();
            memory::reserve(&mut known, rows.len())?;
            known.extend(rows.iter().map(|&row| numbers[row as usize]).filter(|x| !x.is_nan()));
            let nulls = rows.len() - known.len();
            Ok(Margin::of_numbers(known, nulls))
        }
        Values::Codes(codes) => {
            let count = if let FieldKind::Category { count } = kind { count } else { 0 };
            let mut counts = memory::filled(0usize, count)?;
            let mut nulls = 0;
            for &code in codes {
                if code == NONE { nulls += 1 } else { counts[code as usize] += 1 }
            }
            let mut keys = memory::filled(0f64, count)?;
            match of_label {
                Some(scores) => {
                    let mut of_code = memory::filled((0f64, 0f64), count)?;
                    for (&row, &score) in rows.iter().zip(scores) {
                        if let Some((sum, rows)) = of_code.get_mut(codes[row as usize] as usize) {
                            *sum += f64::from(score);
                            *rows += 1.0;
                        }
                    }
                    // Scores have mean 0.
                    keys.iter_mut().zip(&of_code).for_each(|(key, (sum, rows))| *key = sum / (rows + PRIOR));
                }
                None => keys.iter_mut().zip(&counts).for_each(|(key, &rows)| *key = -(rows as f64)),
            }
            let mut order: Vec<u32> = (0..count as u32).collect();
            order.sort_by(|&a, &b| keys[a as usize].total_cmp(&keys[b as usize]));
            Ok(Margin::of_categories(&counts, nulls, &order))
        }
    }
}

fn scores(margin: &Margin, values: &Values, rows: &[u32]) -> Result<Vec<f32>> {
    let mut scores = Vec::new();
    memory::reserve(&mut scores, rows.len())?;
    match values {
        Values::Codes(codes) => {
            scores.extend(rows.iter().map(|&row| margin.score_of_code(codes[row as usize]) as f32));
        }
        Values::Numbers(numbers) => {
            scores.extend(rows.iter().map(|&row| margin.score_of_number(numbers[row as usize]) as f32));
        }
    }
    Ok(scores)
}

/// Correlations [d, d]: the lower triangle is computed in parallel, then mirrored.
fn correlations(margins: &[Margin], scores: &[Vec<f32>], threads: usize, progress: &dyn Progress) -> Result<Vec<f64>> {
    let d = margins.len();
    let n = scores.first().map_or(1, Vec::len).max(1) as f64;
    let means: Vec<f64> = scores.iter().map(|of| of.iter().map(|&x| f64::from(x)).sum::<f64>() / n).collect();
    let mut r = memory::filled(0f64, d * d)?;
    for_each_chunk(
        &mut r,
        d,
        threads,
        progress,
        || (),
        |(), i, row| {
            row[i] = 1.0;
            for (j, out) in row.iter_mut().enumerate().take(i) {
                let parts = scores[i].chunks(SUMMED).zip(scores[j].chunks(SUMMED));
                let sum: f64 = parts.map(|(a, b)| f64::from(dot(a, b))).sum();
                let covariance = sum / n - means[i] * means[j];
                *out = correlation::solve(&margins[i].coefficients, &margins[j].coefficients, covariance);
            }
            Ok(())
        },
    )?;
    for i in 0..d {
        for j in 0..i {
            r[j * d + i] = r[i * d + j];
        }
    }
    Ok(r)
}

/// The tables of the graph.
struct Copula {
    kinds: Vec<FieldKind>,
    /// [d, d]: L by rows.
    factor: Vec<f64>,
    /// [d + 1]: the first cell of each field.
    offsets: Vec<usize>,
    /// [cells] each, as in [`graph`].
    starts: Vec<f64>,
    slopes: Vec<f64>,
    bases: Vec<f64>,
    spans: Vec<f64>,
}

fn open(files: &Files, fields: &[Field]) -> Result<Box<dyn Generator>> {
    let d = fields.len();
    let ([a, b], transposed) = files.initializer::<f64, 2>("factor")?;
    let ([firsts], offsets) = files.initializer::<i64, 1>("first")?;
    let ([_], lasts) = files.initializer::<i64, 1>("last")?;
    let table = |name| files.initializer::<f64, 1>(name).map(|(_, values)| values.to_vec());
    let (starts, slopes, bases, spans) = (table("starts")?, table("slopes")?, table("bases")?, table("spans")?);
    let cells = starts.len();
    let same = [slopes.len(), bases.len(), spans.len()] == [cells; 3] && [a, b, firsts, lasts.len()] == [d; 4];
    let follow = |(i, &first): (usize, &i64)| {
        let next = offsets.get(i + 1).copied().unwrap_or(cells as i64);
        first < next && lasts.get(i) == Some(&(next - 1))
    };
    if !same || offsets.first().is_some_and(|&first| first != 0) || !offsets.iter().enumerate().all(follow) {
        return Err(files.damaged("the tables of its fields contradict each other"));
    }
    let factor = (0..d * d).map(|at| transposed[at % d * d + at / d]).collect();
    let offsets = offsets.iter().map(|&first| first as usize).chain([cells]).collect();
    let kinds = fields.iter().map(|field| field.kind).collect();
    Ok(Box::new(Copula { kinds, factor, offsets, starts, slopes, bases, spans }))
}

impl Copula {
    /// The value of field `j` at z, by the steps of the graph.
    fn value(&self, j: usize, z: f64) -> f64 {
        let (first, last) = (self.offsets[j], self.offsets[j + 1] - 1);
        let cell = first + self.starts[first + 1..=last].partition_point(|&start| start <= z);
        let t = ((z - self.starts[cell]) * self.slopes[cell]).clamp(0.0, 1.0);
        (self.bases[cell] + t * self.spans[cell]) * 2.0
    }

    /// A row of values from one of independent normal numbers.
    fn row(&self, normal: &[f64], out: &mut [f64]) {
        let d = self.kinds.len();
        for (j, (out, l)) in out.iter_mut().zip(self.factor.chunks_exact(d)).enumerate() {
            let z: f64 = l[..=j].iter().zip(normal).map(|(l, x)| l * x).sum();
            *out = self.value(j, z);
        }
    }
}

impl Generator for Copula {
    fn sample(&self, draw: &Draw, _graph: &mut RunGraph) -> Result<Frame> {
        let d = self.kinds.len();
        let (mut rows, seed) = (memory::filled(0f64, draw.rows * d)?, draw.seed);
        for_each_chunk(
            &mut rows,
            CHUNK_ROWS * d.max(1),
            draw.threads,
            draw.progress,
            || vec![0f64; d],
            |normal, chunk, rows| {
                for (row, out) in (chunk * CHUNK_ROWS..).zip(rows.chunks_exact_mut(d)) {
                    let place = (row * d) as u64;
                    normal.iter_mut().zip(place..).for_each(|(x, at)| *x = f64::from(draw::normal(seed, at)));
                    self.row(normal, out);
                }
                Ok(())
            },
        )?;
        Frame::of_rows(&rows, draw.rows, &self.kinds)
    }
}

#[cfg(test)]
mod tests;
