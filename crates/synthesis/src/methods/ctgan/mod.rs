//! A conditional generative adversarial network of rows (Xu, Skoularidou, Cuesta-Infante, Veeramachaneni, "Modeling
//! tabular data using conditional GAN", NeurIPS 2019, sections 4.2 and 4.3).
//!
//! A generator makes rows from noise and a condition, which is a class of one head. A critic distinguishes them from
//! real rows that meet the same conditions. Each step of the critic is followed by one of the generator against the
//! same generated rows; both use Adam with β = (0.5, 0.9) and rates that fall to zero in the second half.
//!
//! The paper's critic sees ten rows at a time and has dropout of a half. Here both are options and off: a critic that
//! sees whole single rows learns the relations between columns in fewer epochs.
//!
//! Classes are drawn from the softmax, the distribution of the arg max of the Gumbel softmax's outputs.
//!
//! Cost: about `6 (z h + (h + z) h + (2h + z) d) + 14 k d` operations a row and step, for noise of width `z`, layers of
//! width `h`, `d` outputs and a critic of width `k`. Real rows and conditions are indices: they add rows of weights.

mod conditions;
mod critic;
mod generator;
mod layer;
mod slot;

use ndarray::{Array1, ArrayView2, s};
use serde_json::{Map, Value};

use super::modes::{Decoder, Encoded, Encoding, Noise, calibrate, decode_graph};
use crate::{Draw, Field, Frame, Generator, Parts, RunGraph, Synthesizer, Task};
use conditions::Conditions;
use critic::Critic;
use kernels::matrix::flat;
use layer::Weights;
use neural::adam::Step;
use neural::dense::PAD;
use onnx::graph::{Axis, GraphBuilder, int_attribute};
use onnx::proto::data_type;
use onnx::stored::{DataWriter, Files};
use runtime::draw::{below, mix};
use runtime::error::Result;
use runtime::memory;
use runtime::options::Options;
use runtime::team;
use runtime::team::Team;
use slot::{Sizes, Slot};

/// Rows of a slot, unless the batch is too large for that.
const SLOT: usize = 48;
const MAX_PARTS: usize = 16;

/// The options.
#[derive(Clone, Copy, Debug)]
struct Settings {
    epochs: usize,
    batch: usize,
    pac: usize,
    dropout: f32,
    learning_rate: f32,
    critic_rate: f32,
    decay: f32,
    noise: usize,
    hidden: usize,
    critic: usize,
}

fn settings(options: &mut Options) -> Result<Settings> {
    Ok(Settings {
        epochs: options.integer("epochs", 45, 1, 100_000)? as usize,
        batch: options.integer("batch_size", 480, 1, 65_536)? as usize,
        pac: options.integer("pac", 1, 1, 100)? as usize,
        dropout: options.float("dropout", 0.0, 0.0, 0.9)?,
        learning_rate: options.float("learning_rate", 1e-3, 1e-7, 1.0)?,
        critic_rate: options.float("critic_learning_rate", 1e-3, 1e-7, 1.0)?,
        decay: options.float("weight_decay", 1e-6, 0.0, 1.0)?,
        noise: options.integer("noise", 64, 1, 1024)? as usize,
        hidden: options.integer("hidden", 128, 1, 4096)? as usize,
        critic: options.integer("critic", 128, 1, 4096)? as usize,
    })
}

/// `ctgan`, see the [module](self).
pub struct Ctgan;

impl Synthesizer for Ctgan {
    fn name(&self) -> &'static str {
        "ctgan"
    }

    fn train(&self, task: &Task, options: &mut Options) -> Result<Parts> {
        train(task, options)
    }

    fn open(&self, files: &Files, fields: &[Field]) -> Result<Box<dyn Generator>> {
        open(files, fields)
    }

    fn runs_graph(&self) -> bool {
        true
    }
}

fn train(task: &Task, options: &mut Options) -> Result<Parts> {
    let settings = settings(options)?;
    let encoding = Encoding::fit(task.fields, task.rows, task.progress)?;
    let encoded = Encoded::new(&encoding, task)?;
    let conditions = Conditions::new(&encoding, &encoded)?;
    // Slots of 48 rows, of more where there would be more than 16 parts.
    let all = settings.batch.div_ceil(settings.pac);
    let packs = all.div_ceil(MAX_PARTS).max(SLOT.min(all)).next_multiple_of(PAD);
    let parts = (all as f64 / packs as f64).round().max(1.0) as usize;
    let sizes = Sizes {
        packs,
        parts,
        pac: settings.pac,
        columns: encoding.columns,
        numbers: encoding.numbers,
        conditions: conditions.len(),
        noise: settings.noise.next_multiple_of(PAD),
        hidden: settings.hidden.next_multiple_of(PAD),
        critic: settings.critic.next_multiple_of(PAD),
        outputs: (encoding.columns + encoding.numbers).next_multiple_of(PAD),
    };
    let seed = task.seed;
    let (mut generator, losses) = team::run(task.threads, task.progress, "epochs", settings.epochs, |team| {
        learn(team, &sizes, &encoding, &encoded, &conditions, &settings, seed)
    })?;
    let mut figures = Map::new();
    for (i, name) in ["critic_losses", "generator_losses", "condition_losses"].into_iter().enumerate() {
        figures.insert(name.into(), losses.iter().map(|loss| loss[i]).collect::<Vec<f64>>().into());
    }
    figures.insert("batch_size".into(), Value::from(sizes.batch()));
    let mut data = DataWriter::default();
    encoding.write(&mut data);
    data.tensor("ctgan.noise", &[1], [sizes.noise as u64]);
    let frequencies = conditions.frequencies();
    data.tensor("ctgan.conditions", &[frequencies.len()], &frequencies);
    let drawn = |row: usize| drawn(&frequencies, mix(seed ^ 6), row).unwrap_or(0);
    let some: Vec<usize> = (0..calibrate::rows(&encoding)).map(drawn).collect();
    let mut outputs = Vec::new();
    memory::reserve(&mut outputs, some.len() * sizes.outputs)?;
    let together = calibrate::together(generator.parameters.len());
    for (number, some) in some.chunks(together).enumerate() {
        let made = generator.outputs(some, mix(mix(seed ^ 7) ^ number as u64), task.progress)?;
        outputs.extend_from_slice(flat(made.view()));
    }
    let outputs = memory::shaped(some.len(), sizes.outputs, outputs)?;
    generator.shift(&calibrate::shifts(&encoding, outputs.view(), task.progress)?);
    Ok(Parts { graph: graph(&generator, &encoding)?, data, figures, released: None })
}

/// Trains both networks. Returns the losses of each epoch, as means over steps: the critic's, the generator's, and that
/// of missed conditions.
fn learn(
    team: &Team,
    sizes: &Sizes,
    encoding: &Encoding,
    encoded: &Encoded,
    conditions: &Conditions,
    settings: &Settings,
    seed: u64,
) -> Result<(generator::Generator, Vec<[f64; 3]>)> {
    let mut slots = Vec::new();
    for _ in 0..sizes.pac * sizes.parts {
        slots.push(Slot::new(sizes)?);
    }
    let heads = encoding.heads.len();
    let mut generator = generator::Generator::new(*sizes, encoding, settings.decay, mix(seed ^ 1))?;
    let mut critic = Critic::new(*sizes, heads, settings.dropout, mix(seed ^ 2))?;
    let steps = (encoded.rows() / sizes.batch()).max(1);
    let mut losses = Vec::new();
    let mut number = 0u64;
    for _ in 0..settings.epochs {
        let mut sums = [0.0; 3];
        for _ in 0..steps {
            let seed = mix(seed ^ mix(3 + number));
            // Constant in the first half, then down to zero.
            let done = number as f32 / (steps * settings.epochs) as f32;
            let share = (2.0 - 2.0 * done).min(1.0);
            number += 1;
            let step = |rate: f32| Some(Step::with(share * rate, number, 0.5, 0.9));
            for (s, slot) in slots.iter_mut().enumerate() {
                for pack in 0..sizes.packs {
                    let place = (s * sizes.packs + pack) as u64;
                    slot.conditions[pack] = conditions.draw(seed, place);
                    slot.rows[pack] = conditions.row(slot.conditions[pack], encoded.rows(), mix(!seed), place);
                }
            }
            generator.make(team, &mut slots, encoding, seed)?;
            sums[0] += critic.train(team, &mut slots, encoded, mix(seed ^ 4), step(settings.critic_rate))?.0;
            sums[1] -= critic.judge(team, &mut slots, mix(seed ^ 5))?;
            sums[2] += generator.train(team, &mut slots, encoding, step(settings.learning_rate))?;
        }
        losses.push(sums.map(|sum| sum / steps as f64));
        team.finished(1);
    }
    Ok((generator, losses))
}

/// The generator as a graph. Batch normalization with the running means is folded into the weights.
fn graph(generator: &generator::Generator, encoding: &Encoding) -> Result<GraphBuilder> {
    let sizes = &generator.sizes;
    let mut g = GraphBuilder::new("ctgan");
    let rows = |width: usize| [Axis::Named("n"), Axis::Fixed(width)];
    g.input("noise", data_type::FLOAT, &rows(sizes.noise));
    g.input("uniform", data_type::FLOAT, &rows(encoding.heads.len()));
    if sizes.conditions > 0 {
        g.input("condition", data_type::INT32, &[Axis::Named("n")]);
    }
    // What a layer adds: a row for each condition, or the same for all.
    let added = |g: &mut GraphBuilder, name: &str, values: &[f32], width: usize| match sizes.conditions {
        0 => g.floats(name, &[width], values),
        n => {
            let table = g.floats(name, &[n, width], values);
            g.node("Gather", &[&table, "condition"])
        }
    };
    let mut state = "noise".to_owned();
    for number in 0..2 {
        let layer = generator.layers[number];
        let h = layer.outputs;
        let Weights { inputs: weight, conditions, added: shift, times } = generator.weights(number)?;
        let (means, variances) = &generator.running[number];
        let scale: Vec<f32> = times.iter().zip(variances).map(|(t, v)| t / (v + 1e-5).sqrt()).collect();
        let shift: Vec<f32> = (0..h).map(|j| shift[j] - means[j] * scale[j]).collect();
        let weight: Vec<f32> = weight.indexed_iter().map(|((_, j), w)| w * scale[j]).collect();
        let table: Vec<f32> = match sizes.conditions {
            0 => shift,
            _ => conditions.indexed_iter().map(|((_, j), w)| w * scale[j] + shift[j]).collect(),
        };
        let weight = g.floats(&format!("layer_{number}"), &[layer.inputs, h], &weight);
        let added = added(&mut g, &format!("conditions_{number}"), &table, h);
        let x = g.node("Gemm", &[&state, &weight, &added]);
        let x = g.node("Relu", &[&x]);
        state = g.node_with("Concat", &[&x, &state], vec![int_attribute("axis", 1)]);
    }
    let last = generator.layers[2];
    let Weights { inputs: weight, conditions, added: bias, .. } = generator.weights(2)?;
    decode_graph(&mut g, encoding, &Noise { within: None, uniform: "uniform" }, |g, columns| {
        let some =
            |rows: ArrayView2<f32>| -> Vec<f32> { rows.slice(s![.., columns.clone()]).iter().copied().collect() };
        let n = columns.len();
        let bias = &bias[columns.clone()];
        let table: Vec<f32> = match sizes.conditions {
            0 => bias.to_vec(),
            _ => some(conditions).iter().enumerate().map(|(i, w)| w + bias[i % n]).collect(),
        };
        let weight = g.floats(&format!("outputs_{}", columns.start), &[last.inputs, n], &some(weight));
        let added = added(g, &format!("output_conditions_{}", columns.start), &table, n);
        g.node("Gemm", &[&state, &weight, &added])
    });
    Ok(g)
}

/// Draws the condition of a row by frequency; `None` if there are no conditions.
fn drawn(conditions: &[u64], seed: u64, row: usize) -> Option<usize> {
    let &total = conditions.last()?;
    let at = below(seed, row as u64, total as usize) as u64;
    Some(conditions.partition_point(|&sum| sum <= at))
}

struct Sampler {
    decoder: Decoder,
    noise: usize,
    /// Cumulative frequencies of the conditions.
    conditions: Vec<u64>,
}

/// Opens a trained model.
fn open(files: &Files, fields: &[Field]) -> Result<Box<dyn Generator>> {
    let decoder = Decoder::open(files, fields)?;
    let ([_], noise) = files.tensor::<u64, 1>("ctgan.noise")?;
    let ([_], conditions) = files.tensor::<u64, 1>("ctgan.conditions")?;
    if conditions.windows(2).any(|pair| pair[0] > pair[1]) || conditions.last() == Some(&0) {
        return Err(files.damaged("ctgan.conditions are no frequencies"));
    }
    match noise.first() {
        Some(&noise @ 1..=4096) => {
            Ok(Box::new(Sampler { decoder, noise: noise as usize, conditions: conditions.to_vec() }))
        }
        _ => Err(files.damaged("ctgan.noise is no width")),
    }
}

impl Generator for Sampler {
    fn sample(&self, draw: &Draw, graph: &mut RunGraph) -> Result<Frame> {
        let seed = mix(draw.seed ^ mix(!0));
        self.decoder.sample(draw, graph, self.noise, |rows| {
            if self.conditions.is_empty() {
                return Ok(Vec::new());
            }
            let some: Array1<i32> =
                rows.filter_map(|row| drawn(&self.conditions, seed, row)).map(|n| n as i32).collect();
            Ok(vec![("condition", some.into())])
        })
    }
}

#[cfg(test)]
mod tests;
