//! The report as a page.

use serde_json::Value;

pub fn html(report: &Value) -> String {
    report.to_string()
}
