//! Similarity, fusion, and the mean of vectors as a parallel aggregate.

use std::ffi::CStr;

use pgrx::prelude::*;
use pgrx::{AnyArray, AnyElement, Internal, pg_sys};

use crate::pg::errors;
use crate::pg::{aggregate, arrays};
use embedding::vector;
use embedding::vector::Fusion;
use runtime::error::{Error, Result};

/// The elements of the vector argument `name`.
fn argument<'a>(array: &'a Array<'_, f32>, name: &str) -> Result<&'a [f32]> {
    arrays::vector(array, format_args!("vector \"{name}\""))
}

/// Input of `reco.numbers`. Accepts NULL and infinite elements: [`argument`] rejects them later with the name of the argument.
#[pg_extern(sql = false)]
fn numbers_in(text: &CStr) -> errors::Result<AnyElement> {
    Ok(arrays::read_reals(text)?)
}

/// The cast from arrays of other numeric types.
#[pg_extern(sql = false)]
fn numbers(values: AnyArray) -> errors::Result<Vec<Option<f32>>> {
    Ok(arrays::numbers(&values)?)
}

#[pg_extern(sql = false)]
fn cosine_similarity(a: Array<f32>, b: Array<f32>) -> errors::Result<f32> {
    let (a, b) = pair(&a, &b)?;
    Ok(vector::cosine(a, b))
}

#[pg_extern(sql = false)]
fn dot_product(a: Array<f32>, b: Array<f32>) -> errors::Result<f32> {
    let (a, b) = pair(&a, &b)?;
    Ok(vector::dot_product(a, b)?)
}

fn pair<'a>(a: &'a Array<f32>, b: &'a Array<f32>) -> Result<(&'a [f32], &'a [f32])> {
    let (a, b) = (argument(a, "a")?, argument(b, "b")?);
    if a.len() != b.len() {
        return Err(Error::Dimensions { left: a.len(), right: b.len() });
    }
    Ok((a, b))
}

#[pg_extern(sql = false)]
fn fuse(a: Array<f32>, b: Array<f32>, weights: Array<f32>, method: &str) -> errors::Result<Vec<f32>> {
    Ok(fused(&[argument(&a, "a")?, argument(&b, "b")?], &weights, method)?)
}

#[pg_extern(sql = false)]
fn fuse_three(
    a: Array<f32>,
    b: Array<f32>,
    c: Array<f32>,
    weights: Array<f32>,
    method: &str,
) -> errors::Result<Vec<f32>> {
    Ok(fused(&[argument(&a, "a")?, argument(&b, "b")?, argument(&c, "c")?], &weights, method)?)
}

fn fused(vectors: &[&[f32]], weights: &Array<f32>, method: &str) -> Result<Vec<f32>> {
    let how = match method {
        "concatenate" => Fusion::Concatenate,
        "add" => Fusion::Add,
        other => {
            return Err(Error::argument("method", format!("\"{other}\""), "Valid values are 'concatenate' and 'add'."));
        }
    };
    let weights = argument(weights, "weights")?;
    if weights.len() != vectors.len() || weights.iter().any(|w| *w < 0.0) || weights.iter().all(|w| *w == 0.0) {
        let hint = format!("Pass {} weights that are 0 or greater and not all 0.", vectors.len());
        return Err(Error::argument("weights", format!("{weights:?}"), hint));
    }
    vector::fuse(vectors, weights, how)
}

/// Σ wᵢ vᵢ and Σ wᵢ. In `f64`, so that the order in which parallel workers add makes no visible difference.
#[derive(Clone, Debug, Default, PartialEq)]
struct Mean {
    weight: f64,
    sum: Vec<f64>,
}

impl Mean {
    fn add(&mut self, vector: &[f32], weight: f64) -> Result<()> {
        self.fit(vector.len())?;
        self.weight += weight;
        self.sum.iter_mut().zip(vector).for_each(|(s, v)| *s += weight * f64::from(*v));
        Ok(())
    }

    fn merge(&mut self, other: &Self) -> Result<()> {
        if other.sum.is_empty() {
            return Ok(());
        }
        self.fit(other.sum.len())?;
        self.weight += other.weight;
        self.sum.iter_mut().zip(&other.sum).for_each(|(s, o)| *s += o);
        Ok(())
    }

    fn fit(&mut self, dimension: usize) -> Result<()> {
        if self.sum.is_empty() {
            self.sum = vec![0.0; dimension];
        }
        if self.sum.len() == dimension {
            Ok(())
        } else {
            Err(Error::Dimensions { left: self.sum.len(), right: dimension })
        }
    }

    fn value(&self) -> Result<Option<Vec<f32>>> {
        if !self.weight.is_finite() || self.sum.iter().any(|s| !s.is_finite()) {
            return Err(Error::OutOfRange("weighted sum of the vectors"));
        }
        Ok((self.weight > 0.0).then(|| self.sum.iter().map(|s| (s / self.weight) as f32).collect()))
    }

    fn serialize(&self) -> Vec<u8> {
        std::iter::once(&self.weight).chain(&self.sum).flat_map(|x| x.to_le_bytes()).collect()
    }

    fn deserialize(bytes: &[u8]) -> Result<Self> {
        let (numbers, rest) = bytes.as_chunks::<8>();
        let mut numbers = numbers.iter().map(|b| f64::from_le_bytes(*b));
        match numbers.next() {
            Some(weight) if rest.is_empty() => Ok(Self { weight, sum: numbers.collect() }),
            _ => Err(Error::Internal("invalid state of mean_embedding".into())),
        }
    }
}

#[pg_extern(sql = false)]
fn mean_embedding_accum(
    state: Internal,
    embedding: Option<Array<f32>>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> errors::Result<Internal> {
    mean_embedding_accum_weighted(state, embedding, Some(1.0), fcinfo)
}

#[pg_extern(sql = false)]
fn mean_embedding_accum_weighted(
    state: Internal,
    embedding: Option<Array<f32>>,
    weight: Option<f64>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> errors::Result<Internal> {
    Ok(aggregate::update(state, fcinfo, Mean::default, |mean| {
        // As with avg: rows with a NULL count for nothing.
        let (Some(embedding), Some(weight)) = (embedding, weight) else { return Ok(()) };
        if !weight.is_finite() || weight < 0.0 {
            return Err(Error::argument("weight", weight, "A weight must be a finite number, 0 or greater."));
        }
        mean.add(argument(&embedding, "embedding")?, weight)
    })?)
}

#[pg_extern(sql = false)]
fn mean_embedding_combine(
    state: Internal,
    other: Internal,
    fcinfo: pg_sys::FunctionCallInfo,
) -> errors::Result<Internal> {
    Ok(aggregate::update(state, fcinfo, Mean::default, |mean| {
        aggregate::read(&other).map_or(Ok(()), |other: &Mean| mean.merge(other))
    })?)
}

#[pg_extern(sql = false)]
fn mean_embedding_serialize(state: Internal) -> Vec<u8> {
    aggregate::read(&state).map(Mean::serialize).unwrap_or_else(|| Mean::default().serialize())
}

#[pg_extern(sql = false)]
fn mean_embedding_deserialize(
    bytes: &[u8],
    _internal: Internal,
    fcinfo: pg_sys::FunctionCallInfo,
) -> errors::Result<Internal> {
    Ok(aggregate::adopt(fcinfo, Mean::deserialize(bytes)?)?)
}

#[pg_extern(sql = false)]
fn mean_embedding_final(state: Internal) -> errors::Result<Option<Vec<f32>>> {
    Ok(aggregate::read(&state).map_or(Ok(None), Mean::value)?)
}
