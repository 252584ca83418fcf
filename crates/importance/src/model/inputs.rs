//! Mapping of table columns to the inputs of a graph.

use std::ops::Range;

use ndarray::ArrayD;

use onnx::inspect::{Dimension, Port, Signature};
use onnx::proto::data_type;
use onnx::tensor::Tensor;
use runtime::error::{Error, Result};
use tabular::{Column, ColumnKind, NONE, Table};

/// The columns of a table as inputs of a graph: side by side, in the order of the query, where the graph has a single input, or each in the
/// input of the same name.
pub struct Inputs<'a> {
    table: &'a Table,
    ports: Vec<(&'a Port, Vec<(&'a str, &'a Column)>)>,
}

impl<'a> Inputs<'a> {
    /// Columns named in `leave` are not inputs. `model` is the name used in errors.
    pub fn new(model: &str, signature: &'a Signature, table: &'a Table, leave: &[&str]) -> Result<Self> {
        let columns = || table.columns().filter(|(name, ..)| !leave.contains(name));
        let wrong = |port: &Port, problem: String| {
            let takes: Vec<String> =
                signature.inputs.iter().map(|p| format!("\"{}\" {}", p.name, p.describe())).collect();
            Error::ModelInput {
                model: model.into(),
                input: port.name.clone(),
                problem,
                hint: format!("The model takes {}; the query gives its columns.", takes.join(", ")),
            }
        };
        if let Some((name, ..)) = columns().find(|(_, kind, _)| *kind == ColumnKind::Time) {
            let hint = "Turn it into a number in the query, as in extract(epoch FROM …).";
            return Err(Error::invalid(
                format!("column \"{name}\" is a time, which a model cannot take as input"),
                hint,
            ));
        }
        let mut ports = Vec::new();
        for port in &signature.inputs {
            let named: Vec<_> =
                columns().filter(|(name, ..)| *name == port.name).map(|(name, _, c)| (name, c)).collect();
            let chosen: Vec<_> = match (named.is_empty(), signature.inputs.len()) {
                (false, _) => named,
                (true, 1) => columns().map(|(name, _, column)| (name, column)).collect(),
                (true, _) => return Err(wrong(port, "has no column of the same name".into())),
            };
            let text = port.element_type == data_type::STRING;
            if let Some((name, _)) = chosen.iter().find(|(_, column)| text != is_text(column)) {
                let problem =
                    format!("cannot take column \"{name}\", which is {}", if text { "not text" } else { "text" });
                return Err(wrong(port, problem));
            }
            let width: usize = chosen.iter().map(|(_, column)| width(column)).sum();
            let fits = match port.shape.as_slice() {
                [_] => width == 1,
                [_, Dimension::Fixed(n)] => *n == width as i64,
                [_, Dimension::Named(_)] => true,
                _ => false,
            };
            let known = [data_type::FLOAT, data_type::DOUBLE, data_type::INT64, data_type::INT32, data_type::STRING];
            if !fits || !known.contains(&port.element_type) {
                return Err(wrong(port, format!("does not take rows of {width} numbers from the query's columns")));
            }
            ports.push((port, chosen));
        }
        if let Some((name, ..)) =
            columns().find(|(name, ..)| !ports.iter().any(|(_, chosen)| chosen.iter().any(|(other, _)| other == name)))
        {
            let hint = "Leave the column out of the query, or give it the name of an input.";
            return Err(Error::invalid(format!("model \"{model}\" has no input for column \"{name}\""), hint));
        }
        Ok(Self { table, ports })
    }

    pub fn rows(&self) -> usize {
        self.table.rows()
    }

    /// The tensors of some rows, by input name. NULL is an error.
    pub fn tensors(&self, rows: Range<usize>) -> Result<Vec<(&str, Tensor)>> {
        self.ports
            .iter()
            .map(|(port, columns)| Ok((port.name.as_str(), tensor(port, columns, rows.clone())?)))
            .collect()
    }
}

fn is_text(column: &Column) -> bool {
    // Booleans are 1 and 0.
    matches!(column, Column::Category { names, .. } if names.iter().any(|name| !matches!(&**name, "t" | "f")))
}

fn width(column: &Column) -> usize {
    match column {
        Column::Vector { width, .. } => *width,
        _ => 1,
    }
}

fn tensor(port: &Port, columns: &[(&str, &Column)], rows: Range<usize>) -> Result<Tensor> {
    let width: usize = columns.iter().map(|(_, column)| width(column)).sum();
    let shape = if port.shape.len() == 1 { vec![rows.len()] } else { vec![rows.len(), width] };
    let mut numbers = Vec::with_capacity(rows.len() * width);
    let mut texts = Vec::new();
    for row in rows {
        for (name, column) in columns {
            let null = || Error::NullColumn { column: (*name).to_owned(), row: row + 1 };
            match column {
                Column::Number(values) if values[row].is_nan() => return Err(null()),
                Column::Number(values) => numbers.push(values[row]),
                Column::Category { codes, .. } if codes[row] == NONE => return Err(null()),
                Column::Category { codes, names, .. } if port.element_type == data_type::STRING => {
                    texts.push(names[codes[row] as usize].to_string());
                }
                Column::Category { codes, names, .. } => {
                    numbers.push(if &*names[codes[row] as usize] == "t" { 1.0 } else { 0.0 });
                }
                Column::Vector { places, .. } if places[row] == NONE => return Err(null()),
                Column::Vector { width, places, values } => {
                    numbers.extend(values[places[row] as usize * width..][..*width].iter().map(|&x| f64::from(x)));
                }
            }
        }
    }
    if port.element_type == data_type::STRING {
        return Ok(ArrayD::from_shape_vec(shape, texts)?.into());
    }
    let numbers = ArrayD::from_shape_vec(shape, numbers)?;
    Ok(match port.element_type {
        data_type::FLOAT => numbers.mapv(|x| x as f32).into(),
        data_type::INT64 => numbers.mapv(|x| x as i64).into(),
        data_type::INT32 => numbers.mapv(|x| x as i32).into(),
        _ => numbers.into(),
    })
}
