//! Texts and numbers in the page.

use std::fmt::Write;

use serde_json::Value;

/// Escapes markup; characters that XML does not allow become U+FFFD.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(' '),
            c if (c as u32) < 0x20 || matches!(c, '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}') => {
                out.push('\u{fffd}')
            }
            c => out.push(c),
        }
    }
    out
}

/// At most `most` characters, escaped, with the whole text in a title.
pub fn clipped(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return escape(text);
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    escape(&format!("{kept}…"))
}

/// A figure, – if it is missing.
pub fn decimals(value: &Value, places: usize) -> String {
    value.as_f64().map_or_else(|| "–".into(), |x| format!("{x:.places$}"))
}

pub fn percent(value: &Value, places: usize) -> String {
    value.as_f64().map_or_else(|| "–".into(), |x| format!("{:.places$} %", 100.0 * x))
}

/// A number with thousands separators: 12345 as 12,345.
pub fn count(value: &Value) -> String {
    let Some(n) = value.as_u64() else { return "–".into() };
    let digits = n.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The label of an axis end: four significant digits, or a date.
pub fn axis(x: f64, is_time: bool) -> String {
    if is_time {
        return day(x);
    }
    let size = x.abs();
    if x == 0.0 {
        "0".into()
    } else if !(1e-3..1e7).contains(&size) {
        format!("{x:.2e}")
    } else if size >= 1000.0 || x.fract() == 0.0 {
        format!("{x:.0}")
    } else {
        let places = (3 - size.log10().floor() as i32).clamp(0, 6) as usize;
        format!("{x:.places$}").trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

/// The date of a day since 2000 in the proleptic Gregorian calendar: 400 years have 146,097 days, and years are counted
/// from March, so that a leap day is the last day of its year.
fn day(days: f64) -> String {
    if days.is_nan() || days.abs() > 1e8 {
        return format!("day {days:.2e}");
    }
    let days = days.floor() as i64 + 730_425; // Since March 1st of the year 0.
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months of 31, 30, 31, 30, 31 days, from March and from August again: 153 days in five.
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year_of_era + i64::from(month >= 10);
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write!(out, "{year:04}-{:02}-{of_month:02}", if month < 10 { month + 3 } else { month - 9 });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn days_are_those_of_the_calendar() {
        let known = [(0.0, "2000-01-01"), (59.0, "2000-02-29"), (60.5, "2000-03-01"), (-1.0, "1999-12-31")];
        for (days, date) in known.into_iter().chain([
            (9_804.0, "2026-11-04"),
            (-10_957.0, "1970-01-01"),
            (36_583.0, "2100-02-28"),
            (36_584.0, "2100-03-01"),
        ]) {
            assert_eq!(day(days), date);
        }
    }

    #[test]
    fn markup_in_texts_is_escaped_and_numbers_are_short() {
        assert_eq!(escape("<b a='1'>&\u{1}\"</b>"), "&lt;b a=&#39;1&#39;&gt;&amp;\u{fffd}&quot;&lt;/b&gt;");
        assert_eq!(clipped("abcdef", 4), "abc…");
        assert_eq!([count(&json!(1234567)), count(&json!(12)), count(&json!(null))], ["1,234,567", "12", "–"]);
        assert_eq!(
            [axis(0.25, false), axis(-12.5, false), axis(1484705.0, false), axis(1e200, false)],
            ["0.25", "-12.5", "1484705", "1.00e200"]
        );
        assert_eq!(
            [percent(&json!(0.1234), 1), decimals(&json!(0.5), 3), decimals(&Value::Null, 3)],
            ["12.3 %", "0.500", "–"]
        );
    }
}
