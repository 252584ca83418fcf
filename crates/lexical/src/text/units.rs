//! Units of measure: what follows a number, in any of its spellings.

/// The symbol, one long name that all spellings share, and the spellings that mean the unit without a number before them too.
struct Unit {
    symbol: &'static str,
    name: &'static str,
    spellings: &'static [&'static str],
}

const fn unit(symbol: &'static str, name: &'static str, spellings: &'static [&'static str]) -> Unit {
    Unit { symbol, name, spellings }
}

const UNITS: &[Unit] = &[
    unit("ml", "milliliter", &["ml", "milliliter", "milliliters", "millilitre", "millilitres"]),
    unit("cl", "centiliter", &["cl", "centiliter", "centiliters", "centilitre", "centilitres"]),
    unit("l", "liter", &["liter", "liters", "litre", "litres"]),
    unit("mm", "millimeter", &["mm", "millimeter", "millimeters", "millimetre", "millimetres"]),
    unit("cm", "centimeter", &["cm", "centimeter", "centimeters", "centimetre", "centimetres"]),
    unit("m", "meter", &["meter", "meters", "metre", "metres"]),
    unit("km", "kilometer", &["km", "kilometer", "kilometers", "kilometre", "kilometres"]),
    unit("in", "inch", &["inch", "inches"]),
    unit("ft", "foot", &["ft", "foot", "feet"]),
    unit("yd", "yard", &["yd", "yard", "yards"]),
    unit("mg", "milligram", &["mg", "milligram", "milligrams", "milligramm"]),
    unit("g", "gram", &["gram", "grams", "gramm"]),
    unit("kg", "kilogram", &["kg", "kilogram", "kilograms", "kilogramm"]),
    unit("oz", "ounce", &["oz", "ounce", "ounces"]),
    unit("lb", "pound", &["lb", "lbs", "pound", "pounds"]),
    unit("qt", "quart", &["qt", "quart", "quarts"]),
    unit("gal", "gallon", &["gal", "gallon", "gallons"]),
    unit("w", "watt", &["watt", "watts"]),
    unit("kw", "kilowatt", &["kw", "kilowatt", "kilowatts"]),
    unit("v", "volt", &["volt", "volts"]),
    unit("mah", "milliamperehour", &["mah"]),
    unit("a", "ampere", &["amp", "amps", "ampere"]),
    unit("hz", "hertz", &["hz", "hertz"]),
    unit("mhz", "megahertz", &["mhz", "megahertz"]),
    unit("ghz", "gigahertz", &["ghz", "gigahertz"]),
    unit("kb", "kilobyte", &["kb", "kilobyte", "kilobytes"]),
    unit("mb", "megabyte", &["mb", "megabyte", "megabytes"]),
    unit("gb", "gigabyte", &["gb", "gigabyte", "gigabytes"]),
    unit("tb", "terabyte", &["tb", "terabyte", "terabytes"]),
    unit("mp", "megapixel", &["mp", "megapixel", "megapixels"]),
    unit("db", "decibel", &["db", "decibel", "decibels"]),
    unit("rpm", "rpm", &["rpm"]),
    unit("pcs", "piece", &["pcs", "pc", "piece", "pieces"]),
    unit("pk", "pack", &["pk", "pack", "packs"]),
    unit("ct", "count", &["ct", "count"]),
];

/// The symbol and the name of the unit that follows a number.
pub fn after_number(word: &str) -> Option<(&'static str, &'static str)> {
    let unit = UNITS.iter().find(|unit| unit.symbol == word || unit.spellings.contains(&word))?;
    Some((unit.symbol, unit.name))
}

/// The name of the unit that a word means without a number before it.
pub fn alone(word: &str) -> Option<&'static str> {
    UNITS.iter().find(|unit| unit.spellings.contains(&word)).map(|unit| unit.name)
}
