//! Charts as inline SVG.

use std::fmt::Write;

use serde_json::Value;

use super::text::{axis, clipped, decimals, escape, percent};

const WIDTH: f64 = 320.0;
/// Maximum number of columns of a heat map: with more the labels are illegible.
pub const MAX_COLUMNS: usize = 40;

fn numbers(values: &Value) -> Vec<f64> {
    values.as_array().into_iter().flatten().map(|x| x.as_f64().unwrap_or(0.0)).collect()
}

/// Real and synthetic shares of a column in one chart.
pub fn distribution(out: &mut String, column: &Value) {
    let of = &column["distribution"];
    if of["edges"].is_array() {
        histogram(out, of, column["kind"] == "time");
    } else {
        bars(out, of);
    }
}

/// The real shares as bars, the synthetic ones as a step line above them.
fn histogram(out: &mut String, of: &Value, is_time: bool) {
    const HEIGHT: f64 = 118.0;
    let (edges, real, synthetic) = (numbers(&of["edges"]), numbers(&of["real"]), numbers(&of["synthetic"]));
    let most = real.iter().chain(&synthetic).fold(0f64, |most, &x| most.max(x));
    if most <= 0.0 {
        out.push_str("<p class=\"none\">only NULL</p>");
        return;
    }
    let step = WIDTH / real.len() as f64;
    let height = |share: f64| share / most * (HEIGHT - 6.0);
    let _ = write!(out, "<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\">", HEIGHT + 18.0);
    for (i, (&r, &s)) in real.iter().zip(&synthetic).enumerate() {
        let (x, h) = (i as f64 * step, height(r));
        let bin = [i, i + 1].map(|e| axis(edges.get(e).copied().unwrap_or(f64::NAN), is_time));
        let _ = write!(
            out,
            "<g><title>{} to {}: real {:.2} %, synthetic {:.2} %</title><rect class=\"hit\" x=\"{x:.2}\" y=\"0\" width=\"{step:.2}\" height=\"{HEIGHT}\"/><rect class=\"real\" x=\"{:.2}\" y=\"{:.2}\" width=\"{:.2}\" height=\"{h:.2}\"/></g>",
            bin[0],
            bin[1],
            100.0 * r,
            100.0 * s,
            x + 0.5,
            HEIGHT - h,
            (step - 1.0).max(0.5)
        );
    }
    let mut path = format!("M0 {HEIGHT}");
    for (i, &s) in synthetic.iter().enumerate() {
        let y = HEIGHT - height(s);
        let _ = write!(path, " V{y:.2} H{:.2}", (i + 1) as f64 * step);
    }
    let _ =
        write!(out, "<path class=\"line\" d=\"{path} V{HEIGHT}\"/><path class=\"axis\" d=\"M0 {HEIGHT} H{WIDTH}\"/>");
    let ends = [edges.first(), edges.last()].map(|x| axis(x.copied().unwrap_or(0.0), is_time));
    let _ = write!(
        out,
        "<text x=\"0\" y=\"{0}\">{1}</text><text x=\"{WIDTH}\" y=\"{0}\" text-anchor=\"end\">{2}</text></svg>",
        HEIGHT + 14.0,
        ends[0],
        ends[1]
    );
}

/// A pair of bars for each of the most frequent categories.
fn bars(out: &mut String, of: &Value) {
    const SHOWN: usize = 7;
    const LABEL: f64 = 112.0;
    const ROW: f64 = 18.0;
    let names: Vec<&str> = of["categories"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let (real, synthetic) = (numbers(&of["real"]), numbers(&of["synthetic"]));
    let shown = names.len().min(SHOWN);
    let mut rows: Vec<(String, String, f64, f64)> = names
        .iter()
        .zip(real.iter().zip(&synthetic))
        .take(shown)
        .map(|(name, (&r, &s))| (clipped(name, 16), escape(name), r, s))
        .collect();
    let others = of["others"]["categories"].as_u64().unwrap_or(0) + (names.len() - shown) as u64;
    if others > 0 {
        let rest = |values: &[f64], key: &str| {
            values.iter().skip(shown).sum::<f64>() + of["others"][key].as_f64().unwrap_or(0.0)
        };
        let name = format!("{others} more");
        rows.push((name.clone(), name, rest(&real, "real"), rest(&synthetic, "synthetic")));
    }
    let most = rows.iter().fold(0f64, |most, row| most.max(row.2).max(row.3));
    if most <= 0.0 {
        out.push_str("<p class=\"none\">only NULL</p>");
        return;
    }
    let _ = write!(out, "<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\">", rows.len() as f64 * ROW);
    for (i, (short, name, r, s)) in rows.iter().enumerate() {
        let y = i as f64 * ROW;
        let width = |share: f64| (share / most * (WIDTH - LABEL - 4.0)).max(0.0);
        let _ = write!(
            out,
            "<g><title>{name}: real {:.2} %, synthetic {:.2} %</title><rect class=\"hit\" x=\"0\" y=\"{y}\" width=\"{WIDTH}\" height=\"{ROW}\"/><text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{short}</text><rect class=\"real\" x=\"{LABEL}\" y=\"{:.1}\" width=\"{:.2}\" height=\"6.5\" rx=\"1\"/><rect class=\"synthetic\" x=\"{LABEL}\" y=\"{:.1}\" width=\"{:.2}\" height=\"6.5\" rx=\"1\"/></g>",
            100.0 * r,
            100.0 * s,
            LABEL - 7.0,
            y + 12.5,
            y + 2.0,
            width(*r),
            y + 9.0,
            width(*s)
        );
    }
    out.push_str("</svg>");
}

/// Scores of pairs as a triangular heat map; pairs that are not associated in the real rows are grey.
pub fn heat_map(out: &mut String, names: &[&str], pairs: &[Value]) {
    const LABEL: f64 = 118.0;
    let n = names.len();
    let cell = ((640.0 - LABEL) / n as f64).clamp(11.0, 34.0);
    let (width, height) = (LABEL + n as f64 * cell + 70.0, LABEL + n as f64 * cell);
    let _ = write!(
        out,
        "<svg class=\"heat\" viewBox=\"0 0 {width:.0} {height:.0}\" style=\"max-width:{width:.0}px\" role=\"img\">"
    );
    let place = |name: &Value| names.iter().position(|other| name == other);
    for pair in pairs {
        let (Some(a), Some(b)) = (place(&pair["columns"][0]), place(&pair["columns"][1])) else { continue };
        let (a, b) = (a.min(b), a.max(b));
        let [x, y] = [LABEL + a as f64 * cell, b as f64 * cell];
        let score = pair["score"].as_f64();
        let fill = score.map_or_else(|| "#eef0f3".into(), colour);
        let text = match score {
            Some(_) => percent(&pair["score"], 1),
            None => "no trend in the real rows".into(),
        };
        let _ = write!(
            out,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{0:.1}\" height=\"{0:.1}\" rx=\"2\" fill=\"{fill}\"><title>{1} and {2}: {text}</title></rect>",
            cell - 1.5,
            escape(names[a]),
            escape(names[b])
        );
        if let (true, Some(score)) = (cell >= 24.0, score) {
            let _ = write!(
                out,
                "<text class=\"in\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{:.0}</text>",
                x + cell / 2.0 - 0.75,
                y + cell / 2.0 + 2.5,
                100.0 * score
            );
        }
    }
    for (i, name) in names.iter().enumerate() {
        let middle = (i as f64 + 0.5) * cell;
        let short = clipped(name, 18);
        if i > 0 {
            let _ = write!(
                out,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{short}</text>",
                LABEL - 6.0,
                middle + 3.0
            );
        }
        if i + 1 < n {
            let (x, y) = (LABEL + middle, n as f64 * cell + 8.0);
            let _ = write!(
                out,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"end\" transform=\"rotate(-45 {x:.1} {y:.1})\">{short}</text>"
            );
        }
    }
    out.push_str("</svg>");
}

/// Color of a score, from brick over sand to teal; scores up to a half are brick.
fn colour(score: f64) -> String {
    let mix = |a: [f64; 3], b: [f64; 3], t: f64| [0, 1, 2].map(|i| (a[i] + (b[i] - a[i]) * t).round() as u8);
    let (brick, sand, teal) = ([201.0, 87.0, 70.0], [244.0, 226.0, 168.0], [58.0, 148.0, 136.0]);
    let t = ((score - 0.5) / 0.5).clamp(0.0, 1.0);
    let [r, g, b] = if t < 0.6 { mix(brick, sand, t / 0.6) } else { mix(sand, teal, (t - 0.6) / 0.4) };
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// A ring chart of a share.
pub fn ring(out: &mut String, share: &Value) {
    let value = share.as_f64().unwrap_or(0.0).clamp(0.0, 1.0);
    let around = std::f64::consts::TAU * 42.0;
    let _ = write!(
        out,
        "<svg class=\"ring\" viewBox=\"0 0 100 100\" role=\"img\"><circle cx=\"50\" cy=\"50\" r=\"42\"/><circle class=\"on\" cx=\"50\" cy=\"50\" r=\"42\" stroke-dasharray=\"{:.2} {around:.2}\" transform=\"rotate(-90 50 50)\"/><text x=\"50\" y=\"57\" text-anchor=\"middle\">{}</text></svg>",
        value * around,
        decimals(share, 3)
    );
}
