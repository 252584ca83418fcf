//! Training steps: forward and backward passes in closed form.
//!
//! A batch is cut into parts of [`PART`] rows. The gradient of each part is computed on one thread, and gradients are
//! added in the order of the parts, so that any number of threads gives the same bits.

use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};
use rayon::prelude::*;

use super::network::{Layer, Network, Shape};
use super::settings::Settings;
use crate::methods::modes::{Class, Encoded, Encoding};
use kernels::dot::axpy;
use kernels::matrix::{flat, flat_mut, rows as rows_of, rows_mut};
use neural::adam::Step;
use neural::elementary::{exp_all, fast_softmax, fill_normal, tanh};
use neural::products::{gradient, product};
use runtime::draw::{mix, shuffled};
use runtime::error::Result;
use runtime::memory;
use runtime::team::Team;

/// Rows of a part.
pub const PART: usize = 125;
/// Parameters that a thread updates at a time.
const BLOCK: usize = 8192;
/// Bounds of the deviations, as in the paper's code; the upper one is the width of a class.
const DEVIATIONS: (f32, f32) = (0.01, 1.0);

/// Buffers of a part, reused between steps.
struct Part {
    gradient: Vec<f32>,
    /// Sums over rows of the reconstruction loss and of the divergence.
    losses: (f64, f64),
    /// [rows, …]: outputs of the layers and their gradients. The decoder's second layer is narrower than the others.
    hidden: [Array2<f32>; 3],
    narrow: Array2<f32>,
    moments: Array2<f32>,
    noise: Array2<f32>,
    latent: Array2<f32>,
    outputs: Array2<f32>,
    back: [Array2<f32>; 2],
    back_narrow: Array2<f32>,
    back_latent: Array2<f32>,
    back_moments: Array2<f32>,
}

impl Part {
    fn new(shape: &Shape, rows: usize) -> Result<Self> {
        let floats = |width: usize| memory::matrix(rows, width, 0f32);
        let hidden = || floats(shape.hidden);
        Ok(Self {
            gradient: memory::filled(0f32, shape.parameters)?,
            losses: (0.0, 0.0),
            hidden: [hidden()?, hidden()?, hidden()?],
            narrow: floats(shape.decoder[2].inputs)?,
            moments: floats(2 * shape.latent)?,
            noise: floats(shape.latent)?,
            latent: floats(shape.latent)?,
            outputs: floats(shape.decoder[2].outputs)?,
            back: [hidden()?, hidden()?],
            back_narrow: floats(shape.decoder[2].inputs)?,
            back_latent: floats(shape.latent)?,
            back_moments: floats(2 * shape.latent)?,
        })
    }
}

/// What all parts of a step share.
struct Batch<'a> {
    shape: &'a Shape,
    parameters: &'a [f32],
    /// Transposed weights of all layers except the first, at the same offsets.
    transposed: &'a [f32],
    encoding: &'a Encoding,
    encoded: &'a Encoded,
    /// Whether a column is a mode.
    modes: &'a [bool],
    rows: &'a [u32],
    seed: u64,
    loss_factor: f32,
}

pub fn add_bias(out: ArrayViewMut2<f32>, bias: &[f32]) {
    rows_mut(out).for_each(|row| row.iter_mut().zip(bias).for_each(|(y, b)| *y += b));
}

pub fn relu(out: ArrayViewMut2<f32>) {
    flat_mut(out).iter_mut().for_each(|y| *y = if *y > 0.0 { *y } else { 0.0 });
}

/// The backward pass of ReLU.
fn relu_back(back: ArrayViewMut2<f32>, output: ArrayView2<f32>) {
    flat_mut(back).iter_mut().zip(flat(output)).for_each(|(g, &y)| *g = if y > 0.0 { *g } else { 0.0 });
}

impl Batch<'_> {
    fn forward(&self, layer: Layer, x: ArrayView2<f32>, mut out: ArrayViewMut2<f32>) -> Result<()> {
        let (weight, bias) = layer.of(self.parameters)?;
        product(x, weight, out.view_mut());
        add_bias(out, bias);
        Ok(())
    }

    /// Adds the gradient of a layer and computes that of its input.
    fn backward(
        &self,
        layer: Layer,
        x: ArrayView2<f32>,
        back: ArrayView2<f32>,
        sum: &mut [f32],
        input: ArrayViewMut2<f32>,
    ) -> Result<()> {
        let (weight, bias) = layer.of_mut(sum)?;
        gradient(x, back, weight);
        rows_of(back).for_each(|row| bias.iter_mut().zip(row).for_each(|(b, g)| *b += g));
        product(back, layer.transposed(self.transposed)?, input);
        Ok(())
    }

    /// Computes the losses and the gradient of a part.
    fn run(&self, number: usize, part: &mut Part) -> Result<()> {
        let shape = self.shape;
        let z = shape.latent;
        let rows = &self.rows[number * PART..((number + 1) * PART).min(self.rows.len())];
        let n = rows.len();
        fn cut(x: &mut Array2<f32>, n: usize) -> ArrayViewMut2<'_, f32> {
            x.slice_mut(s![..n, ..])
        }
        let (sum, losses) = (&mut part.gradient, &mut part.losses);
        sum.fill(0.0);
        let [mut e1, mut e2, mut d1] = part.hidden.each_mut().map(|x| cut(x, n));
        let (mut d2, mut moments) = (cut(&mut part.narrow, n), cut(&mut part.moments, n));
        let (mut noise, mut latent) = (cut(&mut part.noise, n), cut(&mut part.latent, n));
        let mut outputs = cut(&mut part.outputs, n);
        let [mut back1, mut back2] = part.back.each_mut().map(|x| cut(x, n));
        let mut back_d2 = cut(&mut part.back_narrow, n);
        let (mut back_latent, mut back_moments) = (cut(&mut part.back_latent, n), cut(&mut part.back_moments, n));

        let (h, first) = (shape.hidden, shape.encoder[0]);
        let (weight, bias) = first.of(self.parameters)?;
        let weight = flat(weight);
        for (&row, out) in rows.iter().zip(rows_mut(e1.view_mut())) {
            let (classes, numbers) = self.encoded.row(row as usize);
            out.copy_from_slice(bias);
            classes.iter().for_each(|&c| axpy(1.0, &weight[c as usize * h..][..h], out));
            for (&x, w) in numbers.iter().zip(weight[shape.columns * h..].chunks_exact(h)) {
                axpy(x, w, out);
            }
        }
        relu(e1.view_mut());
        self.forward(shape.encoder[1], e1.view(), e2.view_mut())?;
        relu(e2.view_mut());
        self.forward(shape.encoder[2], e2.view(), moments.view_mut())?;
        fill_normal(mix(self.seed ^ number as u64), flat_mut(noise.view_mut()));
        // The halves of `back_moments` hold σ² and σ until their gradients replace them.
        let mut divergence = 0f64;
        let all = rows_mut(moments.view_mut()).zip(rows_mut(back_moments.view_mut()));
        let all = all.zip(rows_mut(latent.view_mut())).zip(rows_of(noise.view()));
        for (((moments, spare), latent), noise) in all {
            let (mean, variance) = moments.split_at_mut(z);
            let deviation = &mut spare[..z];
            variance.iter_mut().for_each(|v| *v = v.clamp(-30.0, 20.0));
            deviation.iter_mut().zip(&*variance).for_each(|(d, v)| *d = 0.5 * v);
            exp_all(deviation);
            let mut sum = 0f32;
            let to = latent.iter_mut().zip(noise);
            for (((x, e), (m, v)), d) in to.zip(mean.iter().zip(&*variance)).zip(&*deviation) {
                *x = m + d * e;
                sum += m * m + d * d - 1.0 - v;
            }
            divergence += f64::from(0.5 * sum);
        }
        self.forward(shape.decoder[0], latent.view(), d1.view_mut())?;
        relu(d1.view_mut());
        self.forward(shape.decoder[1], d1.view(), d2.view_mut())?;
        relu(d2.view_mut());
        self.forward(shape.decoder[2], d2.view(), outputs.view_mut())?;

        let scale = self.loss_factor / self.rows.len() as f32;
        let mut loss = 0f64;
        for (&row, out) in rows.iter().zip(rows_mut(outputs.view_mut())) {
            loss += f64::from(self.row_loss(self.encoded.row(row as usize), scale, out, sum));
        }
        *losses = (f64::from(self.loss_factor) * loss, divergence);

        self.backward(shape.decoder[2], d2.view(), outputs.view(), sum, back_d2.view_mut())?;
        relu_back(back_d2.view_mut(), d2.view());
        self.backward(shape.decoder[1], d1.view(), back_d2.view(), sum, back2.view_mut())?;
        relu_back(back2.view_mut(), d1.view());
        self.backward(shape.decoder[0], latent.view(), back2.view(), sum, back_latent.view_mut())?;
        let share = 1.0 / self.rows.len() as f32;
        let all = rows_mut(back_moments.view_mut()).zip(rows_of(back_latent.view()));
        for (((back, of_latent), noise), moments) in all.zip(rows_of(noise.view())).zip(rows_of(moments.view())) {
            let (mean, variance) = back.split_at_mut(z);
            let all = of_latent.iter().zip(noise);
            for (((m, v), (g, e)), mu) in mean.iter_mut().zip(variance).zip(all).zip(&moments[..z]) {
                // `m` still holds σ.
                let deviation = *m;
                *m = g + share * mu;
                *v = 0.5 * (g * e * deviation + share * (deviation * deviation - 1.0));
            }
        }
        self.backward(shape.encoder[2], e2.view(), back_moments.view(), sum, back1.view_mut())?;
        relu_back(back1.view_mut(), e2.view());
        self.backward(shape.encoder[1], e1.view(), back1.view(), sum, back2.view_mut())?;
        relu_back(back2.view_mut(), e1.view());
        let (weight, bias) = first.of_mut(sum)?;
        let weight = flat_mut(weight);
        for (&row, back) in rows.iter().zip(rows_of(back2.view())) {
            let (classes, numbers) = self.encoded.row(row as usize);
            bias.iter_mut().zip(back).for_each(|(b, g)| *b += g);
            classes.iter().for_each(|&c| axpy(1.0, back, &mut weight[c as usize * h..][..h]));
            for (&x, w) in numbers.iter().zip(weight[shape.columns * h..].chunks_exact_mut(h)) {
                axpy(x, back, w);
            }
        }
        Ok(())
    }

    /// The reconstruction loss of a row. Replaces the outputs by `scale` times its gradient.
    fn row_loss(&self, (classes, numbers): (&[u32], &[f32]), scale: f32, out: &mut [f32], sum: &mut [f32]) -> f32 {
        let shape = self.shape;
        let mut loss = 0f32;
        for (head, &class) in self.encoding.heads.iter().zip(classes) {
            let class = class as usize;
            if let Some(number) = head.number {
                let o = &mut out[shape.columns + number];
                if self.modes[class] {
                    let at = shape.deviations + class;
                    let log = self.parameters[at];
                    let (y, inverse) = (tanh(*o), (-2.0 * log).exp());
                    let far = numbers[number] - y;
                    loss += 0.5 * far * far * inverse + log;
                    *o = -scale * far * inverse * (1.0 - y * y);
                    sum[at] += scale * (1.0 - far * far * inverse);
                } else {
                    *o = 0.0;
                }
            }
            let logits = &mut out[head.first..][..head.classes.len()];
            let chosen = logits[class - head.first];
            loss += fast_softmax(logits) - chosen;
            logits.iter_mut().for_each(|p| *p *= scale);
            logits[class - head.first] -= scale;
        }
        out[shape.columns + shape.numbers..].fill(0.0);
        loss
    }
}

/// The learning rate's factor at a share of all steps.
fn rate(most: f32, share: f32) -> f32 {
    const RISE: f32 = 0.1;
    if share < RISE {
        most * (0.04 + 0.96 * share / RISE)
    } else {
        let left = (share - RISE) / (1.0 - RISE);
        most * 0.5 * (1.0 + (std::f32::consts::PI * left).cos())
    }
}

/// Trains the network. Returns the losses of each epoch, as means over rows.
pub fn train(
    team: &Team,
    mut network: Network,
    encoding: &Encoding,
    encoded: &Encoded,
    settings: &Settings,
    seed: u64,
) -> Result<(Network, Vec<(f64, f64)>)> {
    let shape = network.shape;
    let batch = settings.batch.min(encoded.rows());
    let batches = encoded.rows().div_ceil(batch);
    let modes = encoding.heads.iter().flat_map(|head| &head.classes);
    let modes: Vec<bool> = modes.map(|class| matches!(class, Class::Mode { .. })).collect();
    let mut transposed = memory::filled(0f32, shape.parameters)?;
    let (mut first, mut second) = (memory::filled(0f32, shape.parameters)?, memory::filled(0f32, shape.parameters)?);
    let mut order = memory::filled(0u32, encoded.rows())?;
    let mut parts = Vec::new();
    for _ in 0..batch.div_ceil(PART) {
        parts.push(Part::new(&shape, PART.min(batch))?);
    }
    let mut losses = Vec::new();
    let mut step = 0u64;
    let steps = (settings.epochs * batches) as f32;
    for epoch in 0..settings.epochs {
        shuffled(&mut order, mix(seed ^ mix(1000 + epoch as u64)));
        let mut sums = (0.0, 0.0);
        for rows in order.chunks(batch) {
            team.check()?;
            for layer in shape.encoder[1..].iter().chain(&shape.decoder) {
                layer.transpose(&network.parameters, &mut transposed)?;
            }
            step += 1;
            let used = rows.len().div_ceil(PART);
            let run = Batch {
                shape: &shape,
                parameters: &network.parameters,
                transposed: &transposed,
                encoding,
                encoded,
                modes: &modes,
                rows,
                seed: mix(seed ^ mix(step)),
                loss_factor: settings.loss_factor,
            };
            team.fill(&mut parts[..used], 1, |number, part| run.run(number, &mut part[0]))?;
            let parts = &parts[..used];
            parts.iter().for_each(|part| sums = (sums.0 + part.losses.0, sums.1 + part.losses.1));
            let adam = Step::new(rate(settings.learning_rate, (step - 1) as f32 / steps), step);
            let all = network.parameters.par_chunks_mut(BLOCK).zip(first.par_chunks_mut(BLOCK));
            all.zip(second.par_chunks_mut(BLOCK)).enumerate().for_each(|(block, ((x, m), v))| {
                let mut gradient = [0f32; BLOCK];
                let gradient = &mut gradient[..x.len()];
                gradient.iter_mut().zip(&*x).for_each(|(g, x)| *g = settings.decay * x);
                for part in parts {
                    axpy(1.0, &part.gradient[block * BLOCK..][..gradient.len()], gradient);
                }
                adam.update(x, gradient, m, v);
            });
            let (low, high) = (DEVIATIONS.0.ln(), DEVIATIONS.1.ln());
            network.parameters[shape.deviations..].iter_mut().for_each(|x| *x = x.clamp(low, high));
        }
        let n = encoded.rows() as f64;
        losses.push((sums.0 / n, sums.1 / n));
        team.finished(1);
    }
    Ok((network, losses))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::modes::tests::{category, frame, number, task};
    use crate::{Field, Values};
    use runtime::draw::uniform;
    use runtime::progress::Unwatched;

    #[test]
    fn gradients_are_those_of_small_differences() {
        let fields: Vec<Field> = vec![category("c", 3), number("x")];
        let numbers = (0..40).map(|i| f64::from(uniform(4, i)) * 10.0).collect();
        let rows = frame(vec![Values::Codes((0..40).map(|i| i % 3).collect()), Values::Numbers(numbers)]);
        let encoding = Encoding::fit(&fields, &rows, &Unwatched).unwrap();
        let encoded = Encoded::new(&encoding, &task(&fields, &rows, 1)).unwrap();
        let mut network = Network::new(&encoding, 16, 16, 5).unwrap();
        let shape = network.shape;
        let classes = encoding.heads.iter().flat_map(|head| &head.classes);
        let modes: Vec<bool> = classes.map(|class| matches!(class, Class::Mode { .. })).collect();
        let order: Vec<u32> = (0..40).collect();
        let mut part = Part::new(&shape, 40).unwrap();
        let mut run = |parameters: &[f32]| {
            let mut transposed = vec![0.0; parameters.len()];
            for layer in shape.encoder[1..].iter().chain(&shape.decoder) {
                layer.transpose(parameters, &mut transposed).unwrap();
            }
            let (shape, encoding, encoded, modes) = (&shape, &encoding, &encoded, &modes[..]);
            let transposed = &transposed[..];
            let rows = &order[..];
            Batch { shape, parameters, transposed, encoding, encoded, modes, rows, seed: 3, loss_factor: 2.0 }
                .run(0, &mut part)
                .unwrap();
            ((part.losses.0 + part.losses.1) / 40.0, part.gradient.clone())
        };
        let (_, exact) = run(&network.parameters);
        let mut checked = 0;
        let layers = shape.encoder.iter().chain(&shape.decoder);
        let mut places: Vec<usize> = layers.flat_map(|l| [l.at + 1, l.at + l.outputs * 2 + 3, l.bias() + 5]).collect();
        places.extend(shape.deviations + 3..shape.parameters);
        places.push(shape.encoder[0].at + shape.columns * shape.hidden + 4);
        for place in places {
            let mut moved = |by: f32| {
                let before = network.parameters[place];
                network.parameters[place] = before + by;
                let loss = run(&network.parameters).0;
                network.parameters[place] = before;
                loss
            };
            let difference = ((moved(5e-4) - moved(-5e-4)) / 1e-3) as f32;
            let close = (difference - exact[place]).abs() < 0.05 * exact[place].abs().max(0.05);
            assert!(close, "{place}: {difference} {}", exact[place]);
            checked += usize::from(exact[place].abs() > 1e-3);
        }
        assert!(checked > 10);
    }
}
