//! A variational autoencoder of rows (Xu, Skoularidou, Cuesta-Infante, Veeramachaneni, "Modeling tabular data using
//! conditional GAN", NeurIPS 2019, section 4.4; Kingma, Welling, "Auto-encoding variational Bayes", ICLR 2014).
//!
//! Rows are encoded by [`modes`](super::modes). The encoder maps each row to a normal distribution of a latent vector,
//! the decoder a latent vector to a distribution of each head's class and a normal distribution of its number within
//! the class. With `f` the `loss_factor`, the loss is
//! `f · (Σ_heads −ln p(class) + Σ_numbers (α − tanh o)² / 2δ² + ln δ) − ½ Σ (1 + ln σ² − μ² − σ²)`.
//! New rows are draws of the decoder for standard normal latent vectors. The paper takes the most likely class of each
//! head; here it is drawn, and so is the number within it, since the mode alone would drop rare values and narrow every
//! number.
//!
//! After training, biases are adjusted until classes are as frequent as in the rows
//! ([`calibrate`](super::modes::calibrate)).
//!
//! The learning rate rises over the first tenth of the steps and falls to zero along a cosine, which allows a larger
//! rate and few epochs.
//!
//! Cost: `6 · (3/2 h² + 3 h z + 1/2 h d)` operations a row and epoch, for layers of width `h`, latent vectors of width
//! `z` and `d` outputs: the first layer adds rows of weights instead of multiplying by ones and zeros.

mod network;
mod settings;
mod step;

use ndarray::s;
use serde_json::{Map, Value};

use super::modes::{Decoder, Encoded, Encoding, Noise, calibrate, decode_graph};
use crate::{Draw, Field, Frame, Generator, Parts, RunGraph, Synthesizer, Task};
use kernels::matrix::{flat, flat_mut};
use network::Network;
use neural::elementary::fill_normal;
use neural::products::product;
use onnx::graph::{Axis, GraphBuilder};
use onnx::proto::data_type;
use onnx::stored::{DataWriter, Files};
use runtime::draw::mix;
use runtime::error::Result;
use runtime::memory;
use runtime::options::Options;
use runtime::team;
use settings::Settings;

/// `tvae`, see the [module](self).
pub struct Tvae;

impl Synthesizer for Tvae {
    fn name(&self) -> &'static str {
        "tvae"
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
    let settings = Settings::read(options)?;
    let encoding = Encoding::fit(task.fields, task.rows, task.progress)?;
    let encoded = Encoded::new(&encoding, task)?;
    let network = Network::new(&encoding, settings.hidden, settings.latent, task.seed)?;
    let seed = task.seed;
    let (mut network, losses) = team::run(task.threads, task.progress, "epochs", settings.epochs, |team| {
        step::train(team, network, &encoding, &encoded, &settings, seed)
    })?;
    calibrate(&mut network, &encoding, task)?;
    let mut figures = Map::new();
    figures.insert("loss".into(), losses.last().map_or(Value::Null, |&(a, b)| (a + b).into()));
    let part = |part: fn(&(f64, f64)) -> f64| Value::from(losses.iter().map(part).collect::<Vec<f64>>());
    figures.insert("reconstruction_losses".into(), part(|loss| loss.0));
    figures.insert("divergences".into(), part(|loss| loss.1));
    let mut data = DataWriter::default();
    encoding.write(&mut data);
    data.tensor("tvae.latent", &[1], [network.shape.latent as u64]);
    Ok(Parts { graph: graph(&network, &encoding)?, data, figures, released: None })
}

/// Adjusts biases until classes are as frequent as in the rows.
fn calibrate(network: &mut Network, encoding: &Encoding, task: &Task) -> Result<()> {
    let shape = network.shape;
    let rows = calibrate::rows(encoding);
    let last = shape.decoder[2];
    let mut outputs = Vec::new();
    memory::reserve(&mut outputs, rows * last.outputs)?;
    let together = calibrate::together(shape.parameters);
    for start in (0..rows).step_by(together) {
        let n = together.min(rows - start);
        let mut x = memory::matrix(n, shape.latent, 0f32)?;
        fill_normal(mix(mix(task.seed ^ mix(!0)) ^ start as u64), flat_mut(x.view_mut()));
        for (number, &layer) in shape.decoder.iter().enumerate() {
            task.progress.check()?;
            let (weight, bias) = network.layer(layer)?;
            let mut out = memory::matrix(n, layer.outputs, 0f32)?;
            product(x.view(), weight, out.view_mut());
            step::add_bias(out.view_mut(), bias);
            if number < 2 {
                step::relu(out.view_mut());
            }
            x = out;
        }
        outputs.extend_from_slice(flat(x.view()));
    }
    let outputs = memory::shaped(rows, last.outputs, outputs)?;
    let shifts = calibrate::shifts(encoding, outputs.view(), task.progress)?;
    network.parameters[last.bias()..].iter_mut().zip(shifts).for_each(|(bias, shift)| *bias += shift);
    Ok(())
}

fn graph(network: &Network, encoding: &Encoding) -> Result<GraphBuilder> {
    let shape = &network.shape;
    let mut g = GraphBuilder::new("tvae");
    let latent = shape.latent;
    g.input("noise", data_type::FLOAT, &[Axis::Named("n"), Axis::Fixed(latent + encoding.numbers)]);
    g.input("uniform", data_type::FLOAT, &[Axis::Named("n"), Axis::Fixed(encoding.heads.len())]);
    let hidden = if encoding.numbers > 0 {
        let sizes = g.int64s("noise_sizes", &[2], &[latent as i64, encoding.numbers as i64]);
        let axis = vec![onnx::graph::int_attribute("axis", 1)];
        g.node_to("Split", &["noise", &sizes], axis, &["hidden", "within"]);
        "hidden"
    } else {
        "noise"
    };
    let mut x = hidden.to_owned();
    for (number, layer) in shape.decoder[..2].iter().enumerate() {
        let (weight, bias) = network.layer(*layer)?;
        let weight = g.floats(&format!("decoder_{number}"), &[layer.inputs, layer.outputs], flat(weight));
        let bias = g.floats(&format!("decoder_bias_{number}"), &[layer.outputs], bias);
        x = g.node("Gemm", &[&x, &weight, &bias]);
        x = g.node("Relu", &[&x]);
    }
    let last = shape.decoder[2];
    let (weight, bias) = network.layer(last)?;
    let deviations: Vec<f32> = network.deviations().iter().map(|x| x.exp()).collect();
    let within = (encoding.numbers > 0).then_some(("within", &deviations[..]));
    decode_graph(&mut g, encoding, &Noise { within, uniform: "uniform" }, |g, columns| {
        let part: Vec<f32> = weight.slice(s![.., columns.clone()]).iter().copied().collect();
        let name = |what: &str| format!("{what}_{}", columns.start);
        let weight = g.floats(&name("outputs"), &[last.inputs, columns.len()], &part);
        let bias = g.floats(&name("output_bias"), &[columns.len()], &bias[columns.clone()]);
        g.node("Gemm", &[&x, &weight, &bias])
    });
    Ok(g)
}

struct Sampler {
    decoder: Decoder,
    latent: usize,
}

/// Opens a trained model.
fn open(files: &Files, fields: &[Field]) -> Result<Box<dyn Generator>> {
    let decoder = Decoder::open(files, fields)?;
    let ([_], latent) = files.tensor::<u64, 1>("tvae.latent")?;
    match latent.first() {
        Some(&latent @ 1..=4096) => Ok(Box::new(Sampler { decoder, latent: latent as usize })),
        _ => Err(files.damaged("tvae.latent is no width")),
    }
}

impl Generator for Sampler {
    fn sample(&self, draw: &Draw, graph: &mut RunGraph) -> Result<Frame> {
        self.decoder.sample(draw, graph, self.latent + self.decoder.numbers, |_| Ok(Vec::new()))
    }
}

#[cfg(test)]
mod tests;
