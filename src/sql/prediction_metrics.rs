//! Metrics of predictions as aggregates, which run in parallel and on partitions.

use pgrx::prelude::*;
use pgrx::{AnyElement, Internal, pg_sys};
use serde_json::json;

use super::given;
use crate::pg::aggregate;
use crate::pg::errors;
use crate::pg::ids::any_text;
use crate::pg::interrupts::Statement;
use crate::pg::json::JsonB;
use prediction::metrics::{Average, Check, Confusion, Errors, Ranked, State, wilson};
use runtime::error::{Error, Result};
use runtime::progress::Progress;

const MAX_BINS: i32 = 10_000;

/// The rows of a group, and an argument that is the same in each.
#[derive(Default)]
struct Group<S> {
    argument: Option<f64>,
    rows: S,
}

impl<S: State> Group<S> {
    /// Takes the argument `name`.
    fn set(&mut self, name: &str, argument: f64) -> Result<()> {
        match self.argument {
            Some(known) if known != argument => {
                let message = format!("{name} must be the same in every row, but is {known} and {argument}");
                Err(Error::invalid(message, format!("Pass a constant for {name}.")))
            }
            _ => {
                self.argument = Some(argument);
                Ok(())
            }
        }
    }

    fn merge(&mut self, other: &Self, check: Check) -> Result<()> {
        if let Some(argument) = other.argument {
            self.set("the argument", argument)?;
        }
        self.rows.merge(&other.rows, check)
    }

    /// The argument, NaN for none, and the rows.
    fn serialize(&self, check: Check) -> Result<Vec<u8>> {
        let rows = self.rows.serialize(check)?;
        Ok([&self.argument.unwrap_or(f64::NAN).to_le_bytes()[..], &rows].concat())
    }

    fn deserialize(bytes: &[u8], check: Check) -> Result<Self> {
        let cut = || Error::Internal("invalid state of a metric".into());
        let (argument, rows) = bytes.split_first_chunk::<8>().ok_or_else(cut)?;
        let argument = Some(f64::from_le_bytes(*argument)).filter(|argument| !argument.is_nan());
        Ok(Self { argument, rows: S::deserialize(rows, check)? })
    }
}

/// The functions that merge the states of one kind and carry them from one process to another.
macro_rules! carried {
    ($state:ty: $combine:ident, $serialize:ident, $deserialize:ident) => {
        #[pg_extern(sql = false)]
        fn $combine(state: Internal, other: Internal, fcinfo: pg_sys::FunctionCallInfo) -> errors::Result<Internal> {
            let statement = Statement::new("combine", "");
            Ok(aggregate::update(state, fcinfo, Group::<$state>::default, |group| {
                aggregate::read(&other)
                    .map_or(Ok(()), |other: &Group<$state>| group.merge(other, &|| statement.check()))
            })?)
        }

        #[pg_extern(sql = false)]
        fn $serialize(state: Internal) -> errors::Result<Vec<u8>> {
            let (empty, statement) = (Group::<$state>::default(), Statement::new("serialize", ""));
            Ok(aggregate::read(&state).unwrap_or(&empty).serialize(&|| statement.check())?)
        }

        #[pg_extern(sql = false)]
        fn $deserialize(
            bytes: &[u8],
            _internal: Internal,
            fcinfo: pg_sys::FunctionCallInfo,
        ) -> errors::Result<Internal> {
            let statement = Statement::new("deserialize", "");
            Ok(aggregate::adopt(fcinfo, Group::<$state>::deserialize(bytes, &|| statement.check())?)?)
        }
    };
}

carried!(Ranked: ranked_combine, ranked_serialize, ranked_deserialize);
carried!(Errors: errors_combine, errors_serialize, errors_deserialize);
carried!(Confusion: confusion_combine, confusion_serialize, confusion_deserialize);

// -------------------------------------------------------------------------------------------------------------- rows

/// A number of a row; NaN is an error.
fn number(value: f64, name: &str) -> Result<f64> {
    if value.is_nan() {
        return Err(Error::argument(name, "NaN", format!("Exclude such rows: FILTER (WHERE {name} <> 'NaN').")));
    }
    Ok(value)
}

fn probability(value: f64) -> Result<f64> {
    let value = number(value, "probability")?;
    if !(0.0..=1.0).contains(&value) {
        return Err(Error::argument("probability", value, "A probability is at least 0 and at most 1."));
    }
    Ok(value)
}

fn label_of(label: bool) -> f64 {
    f64::from(u8::from(label))
}

/// Adds a row to a state of `S`, unless one of its values is NULL, as with max.
fn add<S: State, A, B>(
    state: Internal,
    fcinfo: pg_sys::FunctionCallInfo,
    values: (Option<A>, Option<B>),
    argument: impl FnOnce() -> Result<Option<(&'static str, f64)>>,
    change: impl FnOnce(&mut S, A, B) -> Result<()>,
) -> errors::Result<Internal> {
    Ok(aggregate::update(state, fcinfo, Group::<S>::default, |group| {
        if let Some((name, argument)) = argument()? {
            group.set(name, argument)?;
        }
        let (Some(a), Some(b)) = values else { return Ok(()) };
        change(&mut group.rows, a, b)
    })?)
}

fn none() -> Result<Option<(&'static str, f64)>> {
    Ok(None)
}

#[pg_extern(sql = false)]
fn ranked_accum(
    state: Internal,
    score: Option<f64>,
    label: Option<bool>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> errors::Result<Internal> {
    add(state, fcinfo, (score, label), none, |rows: &mut Ranked, score, label| {
        rows.add(number(score, "score")?, label_of(label))
    })
}

#[pg_extern(sql = false)]
fn lift_accum(
    state: Internal,
    score: Option<f64>,
    label: Option<bool>,
    share: Option<f64>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> errors::Result<Internal> {
    let argument = || {
        let share = given(share, "share")?;
        if !(share > 0.0 && share <= 1.0) {
            return Err(Error::argument("share", share, "The share of rows must be above 0 and at most 1."));
        }
        Ok(Some(("share", share)))
    };
    add(state, fcinfo, (score, label), argument, |rows: &mut Ranked, score, label| {
        rows.add(number(score, "score")?, label_of(label))
    })
}

#[pg_extern(sql = false)]
fn ndcg_accum(
    state: Internal,
    score: Option<f64>,
    gain: Option<f64>,
    k: Option<i32>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> errors::Result<Internal> {
    let argument = || Ok(Some(("k", super::list_length(given(k, "k")?)? as f64)));
    add(state, fcinfo, (score, gain), argument, |rows: &mut Ranked, score, gain| {
        if !(gain >= 0.0 && gain.is_finite()) {
            return Err(Error::argument("gain", gain, "A gain must be 0 or more, and finite."));
        }
        rows.add(number(score, "score")?, gain)
    })
}

#[pg_extern(sql = false)]
fn calibration_accum(
    state: Internal,
    predicted: Option<f64>,
    label: Option<bool>,
    bins: Option<i32>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> errors::Result<Internal> {
    let argument = || {
        let bins = given(bins, "bins")?;
        if !(1..=MAX_BINS).contains(&bins) {
            let hint = format!("The number of bins must be 1 to {MAX_BINS}.");
            return Err(Error::argument("bins", bins, hint));
        }
        Ok(Some(("bins", f64::from(bins))))
    };
    add(state, fcinfo, (predicted, label), argument, |rows: &mut Ranked, predicted, label| {
        rows.add(probability(predicted)?, label_of(label))
    })
}

#[pg_extern(sql = false)]
fn probability_errors_accum(
    state: Internal,
    predicted: Option<f64>,
    label: Option<bool>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> errors::Result<Internal> {
    add(state, fcinfo, (predicted, label), none, |rows: &mut Errors, predicted, label| {
        rows.add(probability(predicted)?, label_of(label));
        Ok(())
    })
}

#[pg_extern(sql = false)]
fn errors_accum(
    state: Internal,
    prediction: Option<f64>,
    label: Option<f64>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> errors::Result<Internal> {
    add(state, fcinfo, (prediction, label), none, |rows: &mut Errors, prediction, label| {
        let finite = |value: f64, name: &str| {
            if value.is_infinite() {
                return Err(Error::argument(name, value, "Give finite numbers."));
            }
            number(value, name)
        };
        rows.add(finite(prediction, "prediction")?, finite(label, "label")?);
        Ok(())
    })
}

#[pg_extern(sql = false)]
fn rate_accum(
    state: Internal,
    outcome: Option<bool>,
    confidence: Option<f64>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> errors::Result<Internal> {
    let argument = || {
        let confidence = given(confidence, "confidence")?;
        if !(confidence > 0.0 && confidence < 1.0) {
            return Err(Error::argument("confidence", confidence, "The confidence must be above 0 and below 1."));
        }
        Ok(Some(("confidence", confidence)))
    };
    add(state, fcinfo, (outcome, Some(())), argument, |rows: &mut Errors, outcome, ()| {
        rows.add(0.0, label_of(outcome));
        Ok(())
    })
}

fn confused(rows: &mut Confusion, prediction: AnyElement, label: AnyElement) -> Result<()> {
    rows.add(&any_text(&prediction)?, &any_text(&label)?)
}

#[pg_extern(sql = false)]
fn confusion_accum(
    state: Internal,
    prediction: Option<AnyElement>,
    label: Option<AnyElement>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> errors::Result<Internal> {
    add(state, fcinfo, (prediction, label), none, confused)
}

#[pg_extern(sql = false)]
fn confusion_average_accum(
    state: Internal,
    prediction: Option<AnyElement>,
    label: Option<AnyElement>,
    average: Option<&str>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> errors::Result<Internal> {
    let argument = || {
        let average = Average::from_name(given(average, "average")?)?;
        let place = AVERAGES.iter().position(|other| *other == average).unwrap_or(0);
        Ok(Some(("average", place as f64)))
    };
    add(state, fcinfo, (prediction, label), argument, confused)
}

#[pg_extern(sql = false)]
fn boolean_confusion_accum(
    state: Internal,
    prediction: Option<bool>,
    label: Option<bool>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> errors::Result<Internal> {
    let name = |value: bool| if value { TRUE } else { "false" };
    add(state, fcinfo, (prediction, label), none, |rows: &mut Confusion, prediction, label| {
        rows.add(name(prediction), name(label))
    })
}

const TRUE: &str = "true";
const AVERAGES: [Average; 3] = [Average::Macro, Average::Weighted, Average::Micro];

// ----------------------------------------------------------------------------------------------------------- results

/// The metric of a state; NULL without one.
fn result<S: State, T>(
    state: &Internal,
    metric: impl FnOnce(&Group<S>) -> Result<Option<T>>,
) -> errors::Result<Option<T>> {
    Ok(aggregate::read::<Group<S>>(state).map_or(Ok(None), metric)?)
}

fn of_ranked<T>(
    name: &'static str,
    state: &Internal,
    metric: impl FnOnce(&Ranked, f64, &dyn Fn() -> Result<()>) -> Result<Option<T>>,
) -> errors::Result<Option<T>> {
    let statement = Statement::new(name, "");
    result(state, |group: &Group<Ranked>| {
        metric(&group.rows, group.argument.unwrap_or_default(), &|| statement.check())
    })
}

#[pg_extern(sql = false)]
fn auc_final(state: Internal) -> errors::Result<Option<f64>> {
    of_ranked("auc", &state, |rows, _, check| rows.auc(check))
}

#[pg_extern(sql = false)]
fn average_precision_final(state: Internal) -> errors::Result<Option<f64>> {
    of_ranked("average_precision", &state, |rows, _, check| rows.average_precision(check))
}

#[pg_extern(sql = false)]
fn ndcg_final(state: Internal) -> errors::Result<Option<f64>> {
    of_ranked("ndcg", &state, |rows, k, check| rows.ndcg(k as usize, check))
}

#[pg_extern(sql = false)]
fn lift_final(state: Internal) -> errors::Result<Option<f64>> {
    of_ranked("lift", &state, |rows, share, check| rows.lift(share, check))
}

#[pg_extern(sql = false)]
fn calibration_final(state: Internal) -> errors::Result<Option<JsonB>> {
    of_ranked("calibration", &state, |rows, bins, check| {
        let bins = rows.calibration((bins as usize).max(1), check)?;
        let all: u64 = bins.iter().map(|bin| bin.rows).sum();
        let distance = |bin: &prediction::metrics::Bin| (bin.probability - bin.rate).abs() * bin.rows as f64;
        let error = bins.iter().map(distance).sum::<f64>() / all.max(1) as f64;
        let bins = bins.iter().map(|bin| {
            json!({ "low": bin.low, "high": bin.high, "rows": bin.rows, "probability": bin.probability, "rate": bin.rate })
        });
        let bins: Vec<_> = bins.collect();
        Ok((all > 0).then(|| JsonB(json!({ "error": error, "bins": bins }))))
    })
}

fn of_errors(state: &Internal, metric: impl FnOnce(&Errors) -> Option<f64>) -> errors::Result<Option<f64>> {
    result(state, |group: &Group<Errors>| Ok(metric(&group.rows)))
}

#[pg_extern(sql = false)]
fn log_loss_final(state: Internal) -> errors::Result<Option<f64>> {
    of_errors(&state, Errors::log_loss)
}

#[pg_extern(sql = false)]
fn brier_final(state: Internal) -> errors::Result<Option<f64>> {
    of_errors(&state, Errors::mean_squared)
}

#[pg_extern(sql = false)]
fn rmse_final(state: Internal) -> errors::Result<Option<f64>> {
    of_errors(&state, Errors::rmse)
}

#[pg_extern(sql = false)]
fn mae_final(state: Internal) -> errors::Result<Option<f64>> {
    of_errors(&state, Errors::mae)
}

#[pg_extern(sql = false)]
fn r2_final(state: Internal) -> errors::Result<Option<f64>> {
    of_errors(&state, Errors::r2)
}

#[pg_extern(sql = false)]
fn rate_final(state: Internal) -> errors::Result<Option<JsonB>> {
    result(&state, |group: &Group<Errors>| {
        let (rows, hits) = (group.rows.rows(), group.rows.mean_squared().unwrap_or_default() * group.rows.rows());
        let found = wilson(hits, rows, group.argument.unwrap_or_default());
        Ok(found.map(|i| JsonB(json!({ "rate": i.rate, "low": i.low, "high": i.high, "rows": rows as u64 }))))
    })
}

fn of_confusion(state: &Internal, metric: impl FnOnce(&Confusion) -> Option<f64>) -> errors::Result<Option<f64>> {
    result(state, |group: &Group<Confusion>| Ok(metric(&group.rows)))
}

#[pg_extern(sql = false)]
fn accuracy_final(state: Internal) -> errors::Result<Option<f64>> {
    of_confusion(&state, Confusion::accuracy)
}

#[pg_extern(sql = false)]
fn precision_final(state: Internal) -> errors::Result<Option<f64>> {
    of_confusion(&state, |rows| rows.precision(TRUE))
}

#[pg_extern(sql = false)]
fn recall_final(state: Internal) -> errors::Result<Option<f64>> {
    of_confusion(&state, |rows| rows.recall(TRUE))
}

#[pg_extern(sql = false)]
fn f1_final(state: Internal) -> errors::Result<Option<f64>> {
    of_confusion(&state, |rows| rows.f1(TRUE))
}

fn averaged(state: &Internal, place: usize) -> errors::Result<Option<f64>> {
    result(state, |group: &Group<Confusion>| {
        let average = AVERAGES[(group.argument.unwrap_or_default() as usize).min(AVERAGES.len() - 1)];
        Ok(group.rows.averaged(average).map(|values| values[place]))
    })
}

#[pg_extern(sql = false)]
fn precision_average_final(state: Internal) -> errors::Result<Option<f64>> {
    averaged(&state, 0)
}

#[pg_extern(sql = false)]
fn recall_average_final(state: Internal) -> errors::Result<Option<f64>> {
    averaged(&state, 1)
}

#[pg_extern(sql = false)]
fn f1_average_final(state: Internal) -> errors::Result<Option<f64>> {
    averaged(&state, 2)
}

/// {label: {prediction: rows}}
#[pg_extern(sql = false)]
fn confusion_final(state: Internal) -> errors::Result<Option<JsonB>> {
    result(&state, |group: &Group<Confusion>| {
        let counts = group.rows.counts();
        Ok((!counts.is_empty()).then(|| JsonB(json!(counts))))
    })
}
