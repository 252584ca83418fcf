//! The report as one HTML page: no network, no script, inline charts, all text escaped, for phones and desktops.

mod charts;
mod text;

use std::fmt::Write;

use serde_json::Value;

use text::{count, decimals, escape, percent};

const STYLE: &str = include_str!("page.css");
/// Number of pairs with the lowest scores that are listed.
const LOWEST: usize = 8;

/// Renders the result of [`report`](super::report).
pub fn html(report: &Value) -> String {
    let mut out = String::new();
    let rows = &report["rows"];
    let holdout =
        if rows["holdout"].is_null() { String::new() } else { format!(", {} held out", count(&rows["holdout"])) };
    // Writing to a string cannot fail, here and below.
    let _ = write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/><title>Synthetic rows</title><style>{STYLE}</style></head><body><main><header><h1>Synthetic rows beside real ones</h1><p>{} synthetic rows, {} real{holdout}; {} columns</p></header>",
        count(&rows["synthetic"]),
        count(&rows["real"]),
        count(&report["columns"])
    );
    warnings(&mut out, &report["warnings"]);
    tiles(&mut out, report);
    columns(&mut out, &report["quality"]["columns"]);
    pairs(&mut out, &report["quality"]);
    efficacy(&mut out, &report["efficacy"]);
    privacy(&mut out, report);
    figures(&mut out, &report["quality"]);
    out.push_str("</main></body></html>\n");
    out
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], |values| values)
}

fn text(value: &Value) -> String {
    escape(value.as_str().unwrap_or("–"))
}

fn warnings(out: &mut String, warnings: &Value) {
    let all = array(warnings);
    if all.is_empty() {
        out.push_str("<section class=\"fine\"><p>Nothing to warn of.</p></section>");
        return;
    }
    out.push_str("<section class=\"warnings\"><h2>Look at this first</h2><ul>");
    all.iter().for_each(|warning| {
        let _ = write!(out, "<li>{}</li>", text(warning));
    });
    out.push_str("</ul></section>");
}

fn tiles(out: &mut String, report: &Value) {
    let quality = &report["quality"];
    out.push_str("<section class=\"tiles\"><div class=\"tile wide\">");
    charts::ring(out, &quality["score"]);
    let _ = write!(
        out,
        "<div><h3>Quality</h3><p>shapes of columns <b>{}</b><br/>trends of pairs <b>{}</b><br/>coverage <b>{}</b><br/>within boundaries <b>{}</b></p></div></div>",
        decimals(&quality["column_shapes"], 3),
        decimals(&quality["column_pair_trends"], 3),
        decimals(&quality["coverage"], 3),
        decimals(&quality["boundary"], 3)
    );
    let mut tile = |title: &str, value: String, meaning: &str| {
        let _ = write!(out, "<div class=\"tile\"><h3>{title}</h3><p class=\"value\">{value}</p><p>{meaning}</p></div>");
    };
    tile(
        "Told apart",
        decimals(&report["two_sample_test"]["auc"], 3),
        "AUC of telling real rows from synthetic ones. 0.5: they cannot be told apart. 1: each can.",
    );
    let trained = &report["efficacy"]["trained_on"];
    if trained.is_object() {
        let (metric, name) = if trained["real"]["auc"].is_null() { ("r2", "R²") } else { ("auc", "AUC") };
        let meaning = format!(
            "{name} of a model that learned from synthetic rows, judged by real ones. From the real rows: {}.",
            decimals(&trained["real"][metric], 3)
        );
        tile("Learned from", decimals(&trained["synthetic"][metric], 3), &meaning);
    }
    let copies = &report["copies"];
    let natural = match &copies["natural_share"] {
        Value::Null => {
            format!("Of the real rows {} are there more than once.", percent(&copies["real_rows_repeated"], 2))
        }
        share => format!("Of real rows that were held out: {}.", percent(share, 2)),
    };
    tile(
        "Copies",
        percent(&copies["share"], 2),
        &format!("Synthetic rows that equal a real one in every column. {natural}"),
    );
    let meaning = match report["membership_attack"]["reason"].as_str() {
        Some(reason) => escape(reason),
        None => {
            "AUC of guessing which real rows were learned from, by how near a synthetic row is. 0.5: chance.".into()
        }
    };
    tile("Membership attack", decimals(&report["membership_attack"]["auc"], 3), &meaning);
    out.push_str("</section>");
}

fn columns(out: &mut String, columns: &Value) {
    out.push_str("<section><h2>Columns</h2><p class=\"legend\"><i class=\"real\"></i>real <i class=\"synthetic\"></i>synthetic; shares of rows</p><div class=\"charts\">");
    for column in array(columns) {
        let shape = &column["shape"];
        let _ = write!(
            out,
            "<figure><figcaption><b>{}</b><span title=\"{}\">{}</span></figcaption>",
            text(&column["column"]),
            text(&shape["metric"]),
            decimals(&shape["score"], 3)
        );
        charts::distribution(out, column);
        let nulls = [&column["nulls"]["real"], &column["nulls"]["synthetic"]];
        if nulls.iter().any(|share| share.as_f64().unwrap_or(0.0) > 0.0) {
            let _ = write!(
                out,
                "<p class=\"nulls\">NULL: real {}, synthetic {}</p>",
                percent(nulls[0], 1),
                percent(nulls[1], 1)
            );
        }
        out.push_str("</figure>");
    }
    out.push_str("</div></section>");
}

fn pairs(out: &mut String, quality: &Value) {
    let pairs = array(&quality["pairs"]);
    if pairs.is_empty() {
        return;
    }
    let names: Vec<&str> = array(&quality["columns"]).iter().filter_map(|column| column["column"].as_str()).collect();
    let mut scored: Vec<&Value> = pairs.iter().filter(|pair| !pair["score"].is_null()).collect();
    out.push_str("<section><h2>Pairs of columns</h2><p>How alike correlations and contingencies are, in percent. Grey: the two do not go together in the real rows.</p><div class=\"two\">");
    if names.len() <= charts::MAX_COLUMNS {
        charts::heat_map(out, &names, pairs);
    }
    scored.sort_by(|a, b| a["score"].as_f64().unwrap_or(1.0).total_cmp(&b["score"].as_f64().unwrap_or(1.0)));
    if scored.is_empty() {
        out.push_str("<p>No pair goes together in the real rows.</p>");
    } else {
        out.push_str("<table><thead><tr><th>lowest</th><th>score</th></tr></thead><tbody>");
        for pair in scored.iter().take(LOWEST) {
            let _ = write!(
                out,
                "<tr><td>{} · {}</td><td>{}</td></tr>",
                text(&pair["columns"][0]),
                text(&pair["columns"][1]),
                decimals(&pair["score"], 3)
            );
        }
        out.push_str("</tbody></table>");
    }
    out.push_str("</div></section>");
}

fn efficacy(out: &mut String, efficacy: &Value) {
    if efficacy.is_null() {
        return;
    }
    let _ = write!(out, "<section><h2>Learning “{}”</h2>", text(&efficacy["label"]));
    if let Some(reason) = efficacy["reason"].as_str() {
        let _ = write!(out, "<p>{}</p></section>", escape(reason));
        return;
    }
    let metrics: &[(&str, &str)] = if efficacy["task"] == "regression" {
        &[("r2", "R²"), ("rmse", "RMSE"), ("mae", "MAE")]
    } else {
        &[("auc", "AUC"), ("f1", "F1"), ("accuracy", "accuracy"), ("log_loss", "log-loss")]
    };
    out.push_str("<table><thead><tr><th>learned from</th>");
    metrics.iter().for_each(|(_, name)| {
        let _ = write!(out, "<th>{name}</th>");
    });
    out.push_str("</tr></thead><tbody>");
    for (key, name) in [("real", "real rows"), ("synthetic", "synthetic rows"), ("real_and_synthetic", "both")] {
        let _ = write!(out, "<tr><td>{name}</td>");
        metrics.iter().for_each(|(metric, _)| {
            let _ = write!(out, "<td>{}</td>", decimals(&efficacy["trained_on"][key][metric], 3));
        });
        out.push_str("</tr>");
    }
    let judged = if efficacy["judged_by"] == "holdout" {
        "held out"
    } else {
        "a fifth of the real ones, which the generator may have seen"
    };
    let _ = write!(
        out,
        "</tbody></table><p>Gradient boosting, judged by {} rows: {judged}.",
        count(&efficacy["rows"]["judged"])
    );
    if let Some(raises) = efficacy["augmenting_raises_f1"].as_bool() {
        let gain = &efficacy["f1_gain_of_augmenting"];
        let verb = if raises { "raises" } else { "does not raise" };
        let signed = |x: &Value| x.as_f64().map_or_else(|| "–".into(), |x| format!("{x:+.3}"));
        let _ = write!(
            out,
            " Adding the synthetic rows to the real ones {verb} F1: {}, 95 % interval {} to {}.",
            signed(&gain["mean"]),
            signed(&gain["low"]),
            signed(&gain["high"])
        );
    }
    out.push_str("</p></section>");
}

fn privacy(out: &mut String, report: &Value) {
    let near = &report["distance_to_closest_record"];
    let baseline = if near["baseline"] == "holdout_to_real" {
        "held-out rows to real ones"
    } else {
        "real rows to other real ones"
    };
    out.push_str("<section><h2>How near to single rows</h2><table><thead><tr><th>distance to the closest record</th><th>median</th><th>5th percentile</th><th>nearest-neighbour ratio</th></tr></thead><tbody>");
    for (name, of) in
        [("synthetic rows to real ones", &near["synthetic_to_real"]), (baseline, &near["baseline_to_real"])]
    {
        let _ = write!(
            out,
            "<tr><td>{name}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            decimals(&of["median"], 4),
            decimals(&of["p05"], 4),
            decimals(&of["nearest_neighbor_ratio_median"], 3)
        );
    }
    out.push_str("</tbody></table>");
    if !near["share_closer_to_train_than_holdout"].is_null() {
        let _ = write!(
            out,
            "<p>{} of the synthetic rows are nearer to the rows learned from than to as many held-out ones: 50 % is natural.</p>",
            percent(&near["share_closer_to_train_than_holdout"], 1)
        );
    }
    let _ = write!(out, "<p class=\"note\">{}</p></section>", text(&report["privacy_note"]));
}

fn figures(out: &mut String, quality: &Value) {
    out.push_str("<section><h2>All figures of the columns</h2><div class=\"scroll\"><table><thead><tr><th>column</th><th>shape</th><th>coverage</th><th>boundary</th><th>NULL, real</th><th>NULL, synthetic</th></tr></thead><tbody>");
    for column in array(&quality["columns"]) {
        let _ = write!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            text(&column["column"]),
            decimals(&column["shape"]["score"], 4),
            decimals(&column["coverage"]["score"], 4),
            decimals(&column["boundary"]["score"], 4),
            percent(&column["nulls"]["real"], 1),
            percent(&column["nulls"]["synthetic"], 1)
        );
    }
    out.push_str("</tbody></table></div></section>");
}
