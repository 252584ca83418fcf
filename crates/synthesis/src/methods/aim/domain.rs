//! The cells of each field: which names and bounds may be disclosed, how numbers are binned, which rare names share a
//! cell.
//!
//! A field becomes a column with few cells. Everything that depends on rows is noised and charged:
//! 1. `domain`, only for undeclared fields. Names: a name with c rows is disclosed if c + σN ≥ 2 + zσ, where a normal
//!    number exceeds z with probability δ' / fields, so that a name held by a single row is disclosed with probability
//!    at most δ' over all fields (Gaussian partition selection; Korolova et al. 2009, Desfontaines et al. 2022). Rows
//!    with other names become NULL if the field has NULLs, else a cell that is drawn from the disclosed names. Bounds:
//!    the outermost powers of two whose noisy counts are significant; numbers beyond them are clipped.
//! 2. `bins`, for numbers with more steps than bins: intervals are halved while their noisy count exceeds 1 / bins of
//!    the rows and four times the noise, down to single steps (like PrivTree, Zhang et al. 2016, with Gaussian noise
//!    for each depth). A frequent number gets its own cell.
//! 3. `one-way`: the noisy count of every cell. Rare names share a cell and are drawn within it by the same counts;
//!    adjacent empty bins are merged.
//!
//! Treated as public: the fields, their kinds and steps, and whether they have NULLs. Time O(rows) a field.

use super::noise::Noise;
use super::privacy::{Ledger, gaussian_cost, normal_quantile_above, sigma_for};
use crate::{FieldKind, Released, Task, Values};
use runtime::error::{Error, Result};
use runtime::memory;
use runtime::progress::Progress;

/// Rows between two checks for a cancel request.
const ROWS: usize = 1 << 18;
/// Maximum number of steps that binning distinguishes, and the number of grid cells if there are more or none.
const STEPS: f64 = (1 << 20) as f64;
const EVEN: f64 = 4096.0;
/// Maximum number of cells of a field.
pub const CELLS: usize = 256;
/// Powers of two for bounds: from 2⁻⁶⁴ to 2⁶⁴, of both signs, and 0.
const POWERS: i32 = 64;

/// The budget of each stage, in ρ.
pub struct Plan {
    pub domain: f64,
    pub bins: f64,
    pub one_way: f64,
    /// The δ of names.
    pub delta: f64,
    pub most_bins: usize,
}

/// A value of a cell: `low` + u `width`, u from 0 to 1; for a category its code. NULL is as in the graph.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Output {
    pub low: f64,
    pub width: f64,
    /// Its probability among the outputs of its cell.
    pub share: f64,
}

/// A field in cells.
pub struct Column {
    /// [rows]
    pub codes: Vec<u16>,
    pub outputs: Vec<Output>,
    /// [cells + 1]: start of each cell's outputs.
    pub starts: Vec<usize>,
    /// [cells]: noisy counts, and the variance of their noise.
    pub noisy: Vec<f64>,
    pub variance: Vec<f64>,
}

impl Column {
    pub fn cells(&self) -> usize {
        self.noisy.len()
    }
}

/// The raw cells of a field, without NULL and undisclosed names.
enum Raw {
    /// The disclosed names, as codes of the source.
    Names { codes: Vec<u32> },
    /// A grid, and the end of each bin in it.
    Bins { grid: Grid, ends: Vec<usize> },
}

/// Cells of equal width, of which bins are made.
#[derive(Clone, Copy, Debug)]
struct Grid {
    low: f64,
    high: f64,
    step: f64,
    width: f64,
    cells: usize,
}

impl Grid {
    fn new(low: f64, high: f64, step: f64) -> Self {
        let steps = ((high - low) / step).round() + 1.0;
        let (width, cells) = match () {
            () if high <= low => (step.max(f64::MIN_POSITIVE), 1),
            () if step <= 0.0 => ((high - low) / EVEN, EVEN as usize),
            () if steps <= STEPS => (step, steps as usize),
            () => (step * (steps / EVEN).ceil(), EVEN as usize),
        };
        Self { low, high, step: step.max(0.0), width, cells }
    }

    fn cell(&self, x: f64) -> usize {
        // A saturating cast: what is below is 0.
        (((x - self.low + 0.5 * self.step) / self.width) as usize).min(self.cells - 1)
    }

    /// The numbers of the cells from `start` to before `end`: drawn uniformly, and rounded to a step later.
    fn output(&self, start: usize, end: usize) -> Output {
        let low = self.low + start as f64 * self.width;
        if end == start + 1 && (self.width == self.step || self.cells == 1) {
            return Output { low, width: 0.0, share: 1.0 };
        }
        // A little less than half a step to either side, which is never rounded to the next.
        let margin = 0.499 * self.step;
        let high = (self.low + end as f64 * self.width - self.step).min(self.high).max(low);
        Output { low: low - margin, width: high - low + 2.0 * margin, share: 1.0 }
    }
}

/// Divides a task's fields into cells. Returns the columns, and what may be disclosed of each field.
pub fn prepare(
    task: &Task,
    plan: &Plan,
    ledger: &mut Ledger,
    noise: &mut Noise,
) -> Result<(Vec<Column>, Vec<Released>)> {
    let undeclared = task.fields.iter().filter(|field| !field.declared).count();
    let domain = if undeclared == 0 { 0.0 } else { plan.domain / undeclared as f64 };
    let mut raws = Vec::new();
    for (at, field) in task.fields.iter().enumerate() {
        let told = if field.declared {
            declared(field.kind)
        } else {
            ledger.spend("domain", domain)?;
            let sigma = sigma_for(domain)?;
            discovered(task, at, sigma, plan.delta / undeclared as f64, noise)?
        };
        if told.is_none() && !field.nulls {
            let message = format!("no value of column \"{}\" can be released at this epsilon", field.name);
            return Err(Error::invalid(message, "Declare its categories or bounds, raise epsilon, or give more rows."));
        }
        raws.push(told);
        task.progress.report("domain", at + 1, task.fields.len());
    }
    let released = task.fields.iter().zip(&raws).map(|(field, raw)| release(field.kind, raw.as_ref())).collect();

    let wide = |raw: &Option<Raw>| matches!(raw, Some(Raw::Bins { grid, .. }) if grid.cells > plan.most_bins);
    let bins = plan.bins / raws.iter().filter(|raw| wide(raw)).count().max(1) as f64;
    for (at, raw) in raws.iter_mut().enumerate() {
        if wide(raw) {
            ledger.spend("bins", bins)?;
        }
        if let Some(Raw::Bins { grid, ends }) = raw {
            *ends = if grid.cells > plan.most_bins {
                halved(task, at, grid, bins, plan.most_bins, noise)?
            } else {
                (1..=grid.cells).collect()
            };
        }
        task.progress.report("bins", at + 1, task.fields.len());
    }

    let sigma = sigma_for(plan.one_way / raws.len().max(1) as f64)?;
    let mut columns = Vec::new();
    for (at, raw) in raws.into_iter().enumerate() {
        ledger.spend("one-way", gaussian_cost(sigma))?;
        columns.push(column(task, at, raw, sigma, noise)?);
        task.progress.report("one-way", at + 1, task.fields.len());
    }
    Ok((columns, released))
}

fn declared(kind: FieldKind) -> Option<Raw> {
    match kind {
        FieldKind::Category { count } if count > 0 => Some(Raw::Names { codes: (0..count as u32).collect() }),
        FieldKind::Number { low, high, step } if low <= high && (high - low).is_finite() => {
            Some(Raw::Bins { grid: Grid::new(low, high, step), ends: Vec::new() })
        }
        _ => None,
    }
}

fn release(kind: FieldKind, raw: Option<&Raw>) -> Released {
    match (raw, kind) {
        (Some(Raw::Names { codes }), _) => Released::Category { codes: codes.clone() },
        (Some(Raw::Bins { grid, .. }), _) => Released::Number { low: grid.low, high: grid.high },
        (None, FieldKind::Category { .. }) => Released::Category { codes: Vec::new() },
        (None, FieldKind::Number { .. }) => Released::Number { low: 0.0, high: 0.0 },
    }
}

/// Calls `take` for each row.
fn each_row(rows: usize, progress: &dyn Progress, mut take: impl FnMut(usize)) -> Result<()> {
    for start in (0..rows).step_by(ROWS) {
        progress.check()?;
        (start..rows.min(start + ROWS)).for_each(&mut take);
    }
    Ok(())
}

/// The names or bounds that exceed the noise threshold; `None` if there are none.
fn discovered(task: &Task, at: usize, sigma: f64, delta: f64, noise: &mut Noise) -> Result<Option<Raw>> {
    let values = &task.rows.columns[at];
    match (task.fields[at].kind, values) {
        (FieldKind::Category { count }, Values::Codes(codes)) => {
            let mut counts = memory::filled(0u32, count)?;
            each_row(codes.len(), task.progress, |row| {
                if let Some(count) = counts.get_mut(codes[row] as usize) {
                    *count += 1;
                }
            })?;
            // The discrete tail is no more than the continuous one that begins one earlier.
            let threshold = 2.0 + sigma * normal_quantile_above(delta);
            // A name that no row holds would not be known.
            let held: Vec<u32> = (0..count as u32).filter(|&code| counts[code as usize] > 0).collect();
            let of_held = held.iter().map(|&code| f64::from(counts[code as usize]));
            let noisy = noise.counts(of_held, sigma, task.progress)?;
            let told = held.into_iter().zip(noisy).filter(|&(_, count)| count >= threshold);
            let codes: Vec<u32> = told.map(|(code, _)| code).collect();
            Ok((!codes.is_empty()).then_some(Raw::Names { codes }))
        }
        (FieldKind::Number { step, .. }, Values::Numbers(numbers)) => {
            let side = 2 * POWERS as usize;
            let mut counts = vec![0u64; 2 * side + 1];
            each_row(numbers.len(), task.progress, |row| {
                if !numbers[row].is_nan() {
                    counts[power(numbers[row])] += 1;
                }
            })?;
            // All empty ones stay below it with a probability of 0.999 or so.
            let threshold = sigma * normal_quantile_above(1e-3 / counts.len() as f64);
            let noisy = noise.counts(counts.iter().map(|&count| count as f64), sigma, task.progress)?;
            let told: Vec<bool> = noisy.into_iter().map(|count| count >= threshold).collect();
            let (Some(first), Some(last)) = (told.iter().position(|&t| t), told.iter().rposition(|&t| t)) else {
                return Ok(None);
            };
            let (mut low, mut high) = (power_range(first).0, power_range(last).1);
            if step > 0.0 {
                (low, high) = ((low / step).floor() * step, (high / step).ceil() * step);
            }
            Ok(Some(Raw::Bins { grid: Grid::new(low, high, step), ends: Vec::new() }))
        }
        _ => Err(Error::Internal(format!("field \"{}\" has values of another kind", task.fields[at].name))),
    }
}

/// Index of a number among negative powers of two, 0, and positive ones.
fn power(x: f64) -> usize {
    let side = 2 * POWERS as usize;
    let exponent =
        |x: f64| (x.log2().floor().clamp(-f64::from(POWERS), f64::from(POWERS - 1)) as i32 + POWERS) as usize;
    match x {
        0.0 => side,
        x if x > 0.0 => side + 1 + exponent(x),
        x => side - 1 - exponent(-x),
    }
}

fn power_range(at: usize) -> (f64, f64) {
    let side = 2 * POWERS as usize;
    let range =
        |exponent: usize| (f64::powi(2.0, exponent as i32 - POWERS), f64::powi(2.0, exponent as i32 - POWERS + 1));
    if at > side {
        range(at - side - 1)
    } else if at == side {
        (0.0, 0.0)
    } else {
        let (low, high) = range(side - 1 - at);
        (-high, -low)
    }
}

/// The ends of bins: intervals of the grid, halved while they hold many rows.
fn halved(task: &Task, at: usize, grid: &Grid, rho: f64, most: usize, noise: &mut Noise) -> Result<Vec<usize>> {
    let Values::Numbers(numbers) = &task.rows.columns[at] else {
        return Err(Error::Internal(format!("field \"{}\" has no numbers", task.fields[at].name)));
    };
    let mut before = memory::filled(0u64, grid.cells + 1)?;
    each_row(numbers.len(), task.progress, |row| {
        if !numbers[row].is_nan() {
            before[grid.cell(numbers[row]) + 1] += 1;
        }
    })?;
    for cell in 0..grid.cells {
        before[cell + 1] += before[cell];
    }
    // Each depth is a table of counts of its own; the deepest is not counted, since it is not halved.
    let depths = grid.cells.next_power_of_two().trailing_zeros().max(1);
    let sigma = sigma_for(rho / f64::from(depths))?;
    let mut least = 4.0 * sigma;
    let (mut open, mut ends) = (vec![(0, grid.cells)], Vec::new());
    for depth in 0..depths {
        let mut next = Vec::new();
        for (start, end) in open {
            let count = noise.count((before[end] - before[start]) as f64, sigma);
            if depth == 0 {
                least = least.max(count / most as f64);
            }
            if count > least && end - start > 1 {
                let middle = start + (end - start).div_ceil(2);
                next.extend([(start, middle), (middle, end)]);
            } else {
                ends.push(end);
            }
        }
        open = next;
    }
    ends.extend(open.into_iter().map(|(_, end)| end));
    ends.sort_unstable();
    Ok(ends)
}

/// Counts the raw cells with noise, merges rare ones, and assigns each row its cell.
fn column(task: &Task, at: usize, raw: Option<Raw>, sigma: f64, noise: &mut Noise) -> Result<Column> {
    let field = &task.fields[at];
    let values = &task.rows.columns[at];
    let told = match &raw {
        None => 0,
        Some(Raw::Names { codes }) => codes.len(),
        Some(Raw::Bins { ends, .. }) => ends.len(),
    };
    // After those that are told: NULL, or else what is left out.
    let other = told as u32;
    let all_told = matches!((&raw, field.kind), (Some(Raw::Names { codes }), FieldKind::Category { count }) if codes.len() == count);
    let has_other = field.nulls || (matches!(raw, Some(Raw::Names { .. })) && !all_told);
    let cells = told + usize::from(has_other);

    let mut cell_of_name = Vec::new();
    let mut bin_of = Vec::new();
    match &raw {
        Some(Raw::Names { codes }) => {
            let count = if let FieldKind::Category { count } = field.kind { count } else { 0 };
            cell_of_name = memory::filled(other, count)?;
            for (cell, &code) in (0..).zip(codes) {
                cell_of_name[code as usize] = cell;
            }
        }
        Some(Raw::Bins { grid, ends }) => {
            memory::reserve(&mut bin_of, grid.cells)?;
            for (bin, &end) in (0u32..).zip(ends) {
                bin_of.resize(end, bin);
            }
        }
        None => {}
    }
    let last = cells.saturating_sub(1) as u32;
    let cell = |row: usize| match (values, &raw) {
        (Values::Codes(codes), _) => cell_of_name.get(codes[row] as usize).copied().unwrap_or(other).min(last),
        (Values::Numbers(x), Some(Raw::Bins { grid, .. })) if !x[row].is_nan() => bin_of[grid.cell(x[row])],
        // NULL where there is none by declaration counts as the last cell.
        _ => other.min(last),
    };
    let mut counts = memory::filled(0f64, cells)?;
    each_row(values.len(), task.progress, |row| counts[cell(row) as usize] += 1.0)?;
    let noisy = noise.counts(counts.iter().copied(), sigma, task.progress)?;

    // The raw cells of each cell, and what stands for it.
    let mut joined: Vec<(Vec<usize>, Vec<Output>)> = Vec::new();
    let shares = |of: &[usize]| -> Vec<f64> {
        let mean = (of.iter().map(|&raw| noisy[raw]).sum::<f64>() / of.len() as f64).max(0.1 * sigma);
        let likely: Vec<f64> = of.iter().map(|&raw| expected(noisy[raw], sigma, mean)).collect();
        let sum: f64 = likely.iter().sum();
        likely.iter().map(|x| x / sum).collect()
    };
    let name = |raw: usize, share: f64| Output { low: raw as f64, width: 0.0, share };
    match &raw {
        Some(Raw::Names { .. }) => {
            let mut order: Vec<usize> = (0..told).collect();
            order.sort_by(|&a, &b| noisy[b].total_cmp(&noisy[a]));
            let often = order.iter().take(CELLS - 2).take_while(|&&raw| noisy[raw] >= 3.0 * sigma).count();
            order[..often].sort_unstable();
            order[often..].sort_unstable();
            joined.extend(order[..often].iter().map(|&raw| (vec![raw], vec![name(raw, 1.0)])));
            let rare = &order[often..];
            if !rare.is_empty() {
                let new = rare.iter().zip(shares(rare)).map(|(&raw, share)| name(raw, share)).collect();
                joined.push((rare.to_vec(), new));
            }
        }
        Some(Raw::Bins { grid, ends }) => {
            let mut bin = 0;
            while bin < told {
                let first = bin;
                bin += 1;
                while bin < told && noisy[first..=bin].iter().all(|&count| count < 2.0 * sigma) {
                    bin += 1;
                }
                // The last cell takes in what is over the limit.
                if joined.len() + 2 >= CELLS {
                    bin = told;
                }
                let start = if first == 0 { 0 } else { ends[first - 1] };
                joined.push(((first..bin).collect(), vec![grid.output(start, ends[bin - 1])]));
            }
        }
        None => {}
    }
    if has_other {
        let new = match field.kind {
            FieldKind::Category { .. } if field.nulls => vec![Output { low: -1.0, width: 0.0, share: 1.0 }],
            FieldKind::Number { .. } => vec![Output { low: f64::NAN, width: 0.0, share: 1.0 }],
            FieldKind::Category { .. } => {
                let all: Vec<usize> = (0..told).collect();
                all.iter().zip(shares(&all)).map(|(&raw, share)| name(raw, share)).collect()
            }
        };
        joined.push((vec![told], new));
    }

    let mut column =
        Column { codes: Vec::new(), outputs: Vec::new(), starts: vec![0], noisy: Vec::new(), variance: Vec::new() };
    let mut cell_of = memory::filled(0u16, cells)?;
    for (number, (of, outputs)) in (0u16..).zip(joined) {
        of.iter().for_each(|&raw| cell_of[raw] = number);
        column.noisy.push(of.iter().map(|&raw| noisy[raw]).sum());
        column.variance.push(of.len() as f64 * sigma * sigma);
        memory::extend(&mut column.outputs, &outputs)?;
        column.starts.push(column.outputs.len());
    }
    memory::reserve(&mut column.codes, values.len())?;
    each_row(values.len(), task.progress, |row| column.codes.push(cell_of[cell(row) as usize]))?;
    Ok(column)
}

/// Expected value of a count with noisy value `y`, under an exponential prior with this mean: the mean of a normal
/// distribution around y − σ² / mean, truncated at 0.
fn expected(y: f64, sigma: f64, mean: f64) -> f64 {
    let z = (y - sigma * sigma / mean) / sigma;
    // The density over the distribution function: Mills' ratio as a continued fraction in the tail, and before it the
    // distribution function of Abramowitz and Stegun 26.2.17.
    if z < -1.0 {
        let fraction = (1..=40).rev().fold(-z, |below, i| -z + f64::from(i) / below);
        return sigma * (z + fraction);
    }
    let density = (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt();
    let t = 1.0 / (1.0 + 0.2316419 * z.abs());
    let coefficients = [0.319381530, -0.356563782, 1.781477937, -1.821255978, 1.330274429];
    let tail = density * coefficients.iter().rev().fold(0.0, |sum, c| (sum + c) * t);
    sigma * (z + density / if z > 0.0 { 1.0 - tail } else { tail })
}
