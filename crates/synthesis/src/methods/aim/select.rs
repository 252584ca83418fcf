//! AIM's rounds (McKenna, Mullins, Sheldon, Miklau 2022, algorithms 2 and 4): select the pair that the model
//! approximates worst, measure it, fit again.
//!
//! A round selects among all fields and pairs whose addition keeps the junction tree within a share of the limit, by
//! the exponential mechanism with the score w_r (‖M_r(D) − n p_r‖₁ − √(2/π) σ n_r): the error of the model minus the
//! expected error of the noise. w_r is the number of pairs that r covers. If a measurement changed the model by less
//! than the noise would, σ is halved and ε doubled. Time a round: O(cells of the tree × cells of the fields) for the
//! exact scores of all pairs, and some passes of belief propagation.

use super::domain::Column;
use super::fit::{Fit, Measured};
use super::model::Model;
use super::noise::Noise;
use super::privacy::{Ledger, choice_cost, gaussian_cost, sigma_for};
use super::tree::{Links, size_of_set};
use crate::Task;
use runtime::error::{Error, Result};
use runtime::jobs::{Signal, jobs};
use runtime::memory;

/// Share of a round's budget for the measurement; the rest is for the selection.
const NOISE: f64 = 0.9;
/// Maximum number of counts of all pairs.
const COUNTS: usize = 1 << 27;
/// Rows between two checks for a cancel request.
const ROWS: usize = 1 << 20;

pub struct Limits {
    /// Maximum size of the junction tree's tables, in numbers.
    pub size: usize,
    /// Rounds per field if σ is never halved.
    pub rounds: f64,
    /// Passes of a fit between rounds, and of the last fit.
    pub steps: usize,
    pub last_steps: usize,
    pub tau: f64,
    /// Weight of pairs with the label.
    pub label: f64,
}

/// The result. Variables are fields, ordered by number of cells.
pub struct Learned {
    /// [variables]: the field.
    pub fields: Vec<usize>,
    pub model: Model,
    /// The measured sets of fields.
    pub measured: Vec<Vec<usize>>,
    pub rows: f64,
    pub rounds: usize,
}

struct Candidate {
    vars: Vec<usize>,
    weight: f64,
    counts: Vec<u32>,
}

pub fn learn(
    task: &Task,
    columns: &[Column],
    limits: &Limits,
    ledger: &mut Ledger,
    noise: &mut Noise,
) -> Result<Learned> {
    let mut fields: Vec<usize> = (0..columns.len()).collect();
    fields.sort_by_key(|&field| columns[field].cells());
    let cells: Vec<usize> = fields.iter().map(|&field| columns[field].cells()).collect();
    let label = task.label.and_then(|label| fields.iter().position(|&field| field == label));

    let mut measured: Vec<Measured> = Vec::new();
    for (var, &field) in fields.iter().enumerate() {
        let column = &columns[field];
        measured.push(Measured {
            vars: vec![var],
            counts: column.noisy.clone(),
            variance: column.variance.clone(),
            theta: vec![0.0; column.cells()],
        });
    }
    // The number of rows: the mean of what each field says, weighted by the inverse of its variance.
    let weight = |m: &Measured| 1.0 / m.variance.iter().sum::<f64>();
    let sum: f64 = measured.iter().map(|m| weight(m) * m.counts.iter().sum::<f64>()).sum();
    let rows = (sum / measured.iter().map(weight).sum::<f64>()).max(1.0);
    let fit = Fit { rows, tau: limits.tau };

    let candidates = candidates(task, columns, &fields, &cells, label, limits)?;
    let most_weight = candidates.iter().map(|c| c.weight).fold(0.0, f64::max);
    let mut model = fitted(&cells, &mut measured, label, &fit, limits.steps, task)?;
    let mut links = Links::new(cells.len());
    let (mut sigma, mut epsilon) = round_of(ledger.left() / (limits.rounds * cells.len() as f64).max(1.0))?;
    let (total, mut rounds) = (ledger.left() + ledger.spent(), 0);
    let begun = ledger.spent();
    while !candidates.is_empty() {
        let mut cost = gaussian_cost(sigma) + choice_cost(epsilon);
        let last = ledger.left() < 2.0 * cost;
        if last {
            (sigma, epsilon) = round_of(ledger.left())?;
            cost = ledger.left();
        }
        let within = limits.size as f64 * (ledger.spent() + cost) / total;
        let errors = errors(task, &model, &candidates, rows)?;
        ledger.spend("choice", choice_cost(epsilon))?;
        let mut scored = Vec::new();
        for (number, (candidate, error)) in candidates.iter().zip(&errors).enumerate() {
            let bias = (2.0 / std::f64::consts::PI).sqrt() * sigma * candidate.counts.len() as f64;
            let score = candidate.weight * (error - bias);
            scored.push((0.5 * epsilon * score / most_weight + noise.gumbel(), number));
        }
        // The best of those that fit is the choice among those that fit: whether one fits depends on no row.
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut chosen = None;
        for (_, number) in scored {
            task.progress.check()?;
            let mut with = links.clone();
            with.join(&candidates[number].vars);
            if with.cliques(&cells, within as usize).is_some() {
                chosen = Some(number);
                break;
            }
        }
        let Some(chosen) = chosen else { break };
        let candidate = &candidates[chosen];
        ledger.spend("measurements", gaussian_cost(sigma))?;
        let counts = noise.counts(candidate.counts.iter().map(|&count| f64::from(count)), sigma, task.progress)?;
        links.join(&candidate.vars);
        let before = marginal(&model, &candidate.vars)?;
        if let Some(m) = measured.iter_mut().find(|m| m.vars == candidate.vars) {
            m.combine(&counts, sigma * sigma);
        } else {
            let (vars, n) = (candidate.vars.clone(), counts.len());
            measured.push(Measured { vars, counts, variance: vec![sigma * sigma; n], theta: vec![0.0; n] });
            model = Model::new(&cells, &sets(&measured), label)?;
        }
        fit.run(&mut model, &mut measured, if last { limits.last_steps } else { limits.steps }, task.progress)?;
        rounds += 1;
        task.progress.report("rounds", ((ledger.spent() - begun) / (total - begun) * 1000.0) as usize, 1000);
        if last {
            break;
        }
        let after = marginal(&model, &candidate.vars)?;
        let change: f64 = before.iter().zip(&after).map(|(a, b)| (a - b).abs()).sum::<f64>() * rows;
        if change <= (2.0 / std::f64::consts::PI).sqrt() * sigma * after.len() as f64 {
            (sigma, epsilon) = (sigma / 2.0, epsilon * 2.0);
        }
    }
    let measured = measured.iter().map(|m| m.vars.iter().map(|&var| fields[var]).collect()).collect();
    Ok(Learned { fields, model, measured, rows, rounds })
}

/// The noise deviation and the selection's ε for a round's budget.
fn round_of(rho: f64) -> Result<(f64, f64)> {
    Ok((sigma_for(NOISE * rho)?, (8.0 * (1.0 - NOISE) * rho).sqrt()))
}

fn sets(measured: &[Measured]) -> Vec<Vec<usize>> {
    measured.iter().map(|m| m.vars.clone()).collect()
}

fn fitted(
    cells: &[usize],
    measured: &mut [Measured],
    label: Option<usize>,
    fit: &Fit,
    steps: usize,
    task: &Task,
) -> Result<Model> {
    let mut model = Model::new(cells, &sets(measured), label)?;
    fit.run(&mut model, measured, steps, task.progress)?;
    Ok(model)
}

/// All fields and pairs with few enough cells, with exact counts. What is left out depends only on numbers of cells.
fn candidates(
    task: &Task,
    columns: &[Column],
    fields: &[usize],
    cells: &[usize],
    label: Option<usize>,
    limits: &Limits,
) -> Result<Vec<Candidate>> {
    let n = cells.len();
    let mut all: Vec<Vec<usize>> = (0..n).map(|a| vec![a]).collect();
    all.extend((0..n).flat_map(|a| (a + 1..n).map(move |b| vec![a, b])));
    all.sort_by_key(|vars| size_of_set(cells, vars));
    let mut room = COUNTS;
    all.retain(|vars| {
        let size = size_of_set(cells, vars);
        let fits = size <= limits.size && size <= room;
        room -= if fits { size } else { 0 };
        fits
    });
    let counted = |signal: &Signal, at: usize| {
        let vars = &all[at];
        let mut counts = memory::filled(0u32, size_of_set(cells, vars))?;
        let first = &columns[fields[vars[0]]].codes;
        let second = vars.get(1).map(|&b| (&columns[fields[b]].codes, cells[b]));
        for start in (0..first.len()).step_by(ROWS) {
            signal.check()?;
            let rows = start..first.len().min(start + ROWS);
            match second {
                Some((second, k)) => {
                    for (&a, &b) in first[rows.clone()].iter().zip(&second[rows]) {
                        counts[usize::from(a) * k + usize::from(b)] += 1;
                    }
                }
                None => first[rows].iter().for_each(|&a| counts[usize::from(a)] += 1),
            }
        }
        signal.finished(1);
        Ok(counts)
    };
    let counts = jobs(all.len(), task.threads, task.progress, ("counts", all.len()), counted)?;
    let of_pair = |a: usize, b: usize| if Some(a) == label || Some(b) == label { limits.label } else { 1.0 };
    // How many pairs it tells of, each by the number of fields in common.
    let of_field: Vec<f64> = (0..n).map(|a| (0..n).filter(|&b| b != a).map(|b| of_pair(a, b)).sum()).collect();
    let weight = |vars: &[usize]| match *vars {
        [a] => of_field[a].max(1.0),
        [a, b] => of_field[a] + of_field[b],
        _ => 0.0,
    };
    Ok(all
        .iter()
        .zip(counts)
        .map(|(vars, counts)| Candidate { weight: weight(vars), vars: vars.clone(), counts })
        .collect())
}

/// ‖M_r(D) − n p_r‖₁ of each candidate.
fn errors(task: &Task, model: &Model, candidates: &[Candidate], rows: f64) -> Result<Vec<f64>> {
    let n = model.cells.len();
    let mut place = memory::filled(usize::MAX, n * n)?;
    for (number, candidate) in candidates.iter().enumerate() {
        if let [a, b] = candidate.vars[..] {
            place[a * n + b] = number;
        }
    }
    let error = |counts: &[u32], p: &[f64]| -> f64 {
        counts.iter().zip(p).map(|(&count, p)| (f64::from(count) - rows * p).abs()).sum()
    };
    let of_source = |signal: &Signal, a: usize| {
        let mut found = Vec::new();
        model.pairs_of(a, &|| signal.check(), |b, p| {
            if let Some(candidate) = candidates.get(place[a * n + b]) {
                found.push((place[a * n + b], error(&candidate.counts, p)));
            }
        })?;
        signal.finished(1);
        Ok(found)
    };
    let found = jobs(n, task.threads, task.progress, ("rounds", 0), of_source)?;
    let mut errors = vec![0.0; candidates.len()];
    found.into_iter().flatten().for_each(|(number, error)| errors[number] = error);
    for (candidate, to) in candidates.iter().zip(&mut errors) {
        if candidate.vars.len() == 1 {
            *to = error(&candidate.counts, &marginal(model, &candidate.vars)?);
        }
    }
    Ok(errors)
}

/// The model's marginal of a field or a pair.
fn marginal(model: &Model, vars: &[usize]) -> Result<Vec<f64>> {
    if let Some(clique) = model.tree.cliques.iter().position(|clique| super::tree::is_subset(vars, clique)) {
        return model.project(clique, vars);
    }
    let mut found = Vec::new();
    if let [a, b] = *vars {
        model.pairs_of(a, &|| Ok(()), |other, pair| {
            if other == b {
                found = pair.to_vec();
            }
        })?;
    }
    if found.is_empty() { Err(Error::Internal("a pair of fields has no probabilities".into())) } else { Ok(found) }
}
