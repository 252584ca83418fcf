//! The precision of numbers: the greatest step of which all of them are multiples.

use super::ColumnType;

/// Maximum number of decimals of a step; numbers with more have none.
const MAX_DECIMALS: i32 = 6;
/// Microseconds of a day, an hour, a minute, a second, a millisecond.
const UNITS: [f64; 5] = [86_400e6, 3_600e6, 60e6, 1e6, 1e3];

/// The greatest step of which all values are multiples, 0 if there is none. NaN is NULL. `scale` is that of the type.
/// With `by_type` only the type is used, not the values.
pub fn step(column_type: ColumnType, scale: Option<u8>, values: &[f64], by_type: bool) -> f64 {
    let by_scale = scale.map(|digits| 10f64.powi(-i32::from(digits)));
    match column_type {
        ColumnType::Integer | ColumnType::Date if by_type => 1.0,
        ColumnType::Integer | ColumnType::Date => common_divisor(values),
        ColumnType::Time | ColumnType::Timestamp | ColumnType::Timestamptz => {
            let all = |unit: f64| values.iter().all(|x| x.is_nan() || x % unit == 0.0);
            if by_type { 1.0 } else { UNITS.into_iter().find(|&unit| all(unit)).unwrap_or(1.0) }
        }
        _ if by_type => by_scale.unwrap_or(0.0),
        _ => decimals(values).or(by_scale).unwrap_or(0.0),
    }
}

/// The step of whole numbers.
fn common_divisor(values: &[f64]) -> f64 {
    let mut divisor = 0.0f64;
    for &x in values.iter().filter(|x| !x.is_nan()) {
        let (mut a, mut b) = (divisor, x.abs());
        while b > 0.0 {
            (a, b) = (b, a % b);
        }
        divisor = a;
        if divisor == 1.0 {
            break;
        }
    }
    // One value alone is no sign that others are multiples of it.
    let mut seen = values.iter().filter(|x| !x.is_nan());
    let first = seen.next();
    if divisor == 0.0 || seen.all(|x| Some(x) == first) { 1.0 } else { divisor }
}

/// The step 10⁻ᵈ for the fewest decimals d that reproduce every value exactly.
fn decimals(values: &[f64]) -> Option<f64> {
    let mut digits = 0;
    for &x in values.iter().filter(|x| !x.is_nan()) {
        while digits <= MAX_DECIMALS {
            let scale = 10f64.powi(digits);
            let rounded = (x * scale).round() / scale;
            // As close as the single precision that the column may have.
            if rounded == x || rounded as f32 == x as f32 {
                break;
            }
            digits += 1;
        }
        if digits > MAX_DECIMALS {
            return None;
        }
    }
    Some(10f64.powi(-digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_is_the_precision_of_what_is_there() {
        let of = |kind, values: &[f64]| step(kind, None, values, false);
        assert_eq!(of(ColumnType::Integer, &[10.0, 25.0, f64::NAN, -5.0]), 5.0);
        assert_eq!(of(ColumnType::Integer, &[7.0, 7.0]), 1.0);
        assert_eq!(of(ColumnType::Integer, &[0.0, 0.0]), 1.0);
        assert_eq!(of(ColumnType::Numeric, &[1.99, 3.5, 4.0]), 0.01);
        assert_eq!(of(ColumnType::Float, &[0.1, std::f64::consts::PI]), 0.0);
        assert_eq!(of(ColumnType::Float, &[f64::from(0.3f32), 2.0]), 0.1);
        assert_eq!(of(ColumnType::Timestamp, &[86_400e6, 3.0 * 3_600e6]), 3_600e6);
        assert_eq!(step(ColumnType::Numeric, Some(2), &[5.0], true), 0.01);
        assert_eq!(step(ColumnType::Integer, None, &[10.0, 20.0], true), 1.0);
    }
}
