//! Parses expressions as users write them and as PostgreSQL prints those of its catalog.

use crate::description::ColumnType;

const MAX_PARENTHESES: usize = 200;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Less,
    AtMost,
    Greater,
    AtLeast,
    Equal,
}

impl Operator {
    /// The operator with its operands exchanged.
    pub fn turned(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::AtMost => Self::AtLeast,
            Self::Greater => Self::Less,
            Self::AtLeast => Self::AtMost,
            Self::Equal => Self::Equal,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    Column(String),
    Number(f64),
    Text(String),
}

impl Operand {
    /// The name of the category that it denotes in a column of this type.
    pub fn name(&self, kind: ColumnType) -> String {
        match self {
            Self::Text(text) if kind == ColumnType::Boolean => truth(text).to_owned(),
            Self::Column(text) | Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
        }
    }
}

fn truth(text: &str) -> &str {
    match text {
        "t" => "true",
        "f" => "false",
        other => other,
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Comparison {
    Compare(Operand, Operator, Operand),
    OneOf(String, Vec<Operand>),
    NotNull(String),
}

/// The comparisons of a conjunction. `None` if the form is not supported.
pub fn parse(expression: &str) -> Option<Vec<Comparison>> {
    // Each parenthesis is a call deeper.
    if expression.matches('(').count() > MAX_PARENTHESES {
        return None;
    }
    let mut parser = Parser { tokens: tokens(expression)?, at: 0 };
    let mut comparisons = parser.all()?;
    (parser.at == parser.tokens.len()).then(|| {
        comparisons.dedup();
        comparisons
    })
}

/// Parses `YYYY-MM-DD`, `HH:MM[:SS[.FFFFFF]]`, or both separated by a blank or a T: days or microseconds since 2000, or
/// microseconds of the day. No time zone other than `Z` or `+00` is supported.
pub fn time(text: &str, kind: ColumnType) -> Option<f64> {
    let text = text.trim().trim_end_matches("+00").trim_end_matches('Z');
    let (date, clock) = match text.split_once([' ', 'T']) {
        Some((date, clock)) => (Some(date), Some(clock)),
        None if text.contains(':') => (None, Some(text)),
        None => (Some(text), None),
    };
    let days = date.map_or(Some(0.0), days)?;
    let clock = clock.map_or(Some(0.0), microseconds)?;
    match kind {
        ColumnType::Date if date.is_some() => Some(days),
        ColumnType::Timestamp | ColumnType::Timestamptz if date.is_some() => Some(days * 86_400e6 + clock),
        ColumnType::Time if date.is_none() => Some(clock),
        _ => None,
    }
}

/// Days since 2000-01-01 of a date of the Gregorian calendar (Hinnant, "chrono-compatible low-level date algorithms").
fn days(text: &str) -> Option<f64> {
    let mut parts = text.splitn(3, '-');
    let mut part = || parts.next()?.parse::<i64>().ok();
    let (year, month, day) = (part()?, part()?, part()?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || !(1..=9999).contains(&year) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let of_era = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    // Days from 0000-03-01 to 2000-01-01.
    Some((era * 146_097 + of_era - 730_425) as f64)
}

fn microseconds(text: &str) -> Option<f64> {
    let mut parts = text.splitn(3, ':');
    let (hours, minutes) = (parts.next()?.parse::<u32>().ok()?, parts.next()?.parse::<u32>().ok()?);
    let seconds: f64 = parts.next().map_or(Some(0.0), |text| text.parse().ok())?;
    let fits = hours <= 24 && minutes < 60 && (0.0..=60.0).contains(&seconds);
    fits.then(|| f64::from(hours) * 3_600e6 + f64::from(minutes) * 60e6 + (seconds * 1e6).round())
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Quoted(String),
    Number(f64),
    Text(String),
    Sign(&'static str),
}

const SIGNS: [&str; 16] = ["::", "<=", ">=", "<>", "!=", "<", ">", "=", "(", ")", "[", "]", ",", ".", "+", "-"];

fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '\'' | '"' => {
                let (inner, length) = quoted(rest, first)?;
                tokens.push(if first == '"' { Token::Quoted(inner) } else { Token::Text(inner) });
                length
            }
            '0'..='9' => {
                let length = number_length(rest);
                tokens.push(Token::Number(rest[..length].parse().ok()?));
                length
            }
            c if c.is_alphabetic() || c == '_' => {
                let length = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(rest.len());
                tokens.push(Token::Word(rest[..length].to_lowercase()));
                length
            }
            _ => {
                let sign = SIGNS.into_iter().find(|sign| rest.starts_with(sign))?;
                tokens.push(Token::Sign(sign));
                sign.len()
            }
        };
        rest = rest[length..].trim_start();
    }
    Some(tokens)
}

/// The quoted text, with doubled quotes as one, and its length with the quotes.
fn quoted(text: &str, quote: char) -> Option<(String, usize)> {
    let mut inner = String::new();
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((place, c)) = characters.next() {
        if c != quote {
            inner.push(c);
        } else if characters.next_if(|&(_, next)| next == quote).is_some() {
            inner.push(quote);
        } else {
            return Some((inner, place + 1));
        }
    }
    None
}

fn number_length(text: &str) -> usize {
    let mut before = ' ';
    let ends = |c: char| {
        let belongs = c.is_ascii_digit()
            || c == '.'
            || c == 'e'
            || c == 'E'
            || ((c == '-' || c == '+') && matches!(before, 'e' | 'E'));
        before = c;
        !belongs
    };
    text.find(ends).unwrap_or(text.len())
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn sign(&mut self, sign: &str) -> bool {
        let found = matches!(self.tokens.get(self.at), Some(Token::Sign(s)) if *s == sign);
        self.at += usize::from(found);
        found
    }

    fn word(&mut self, word: &str) -> bool {
        let found = matches!(self.tokens.get(self.at), Some(Token::Word(w)) if w == word);
        self.at += usize::from(found);
        found
    }

    fn all(&mut self) -> Option<Vec<Comparison>> {
        let mut comparisons = self.one()?;
        while self.word("and") {
            comparisons.extend(self.one()?);
        }
        Some(comparisons)
    }

    /// A comparison, or several in parentheses.
    fn one(&mut self) -> Option<Vec<Comparison>> {
        let start = self.at;
        if self.sign("(")
            && let Some(comparisons) = self.all()
            && self.sign(")")
        {
            return Some(comparisons);
        }
        // The parenthesis was an operand's.
        self.at = start;
        self.comparison()
    }

    fn comparison(&mut self) -> Option<Vec<Comparison>> {
        let left = self.operand()?;
        if self.word("is") {
            return match left {
                Operand::Column(column) if self.word("not") && self.word("null") => {
                    Some(vec![Comparison::NotNull(column)])
                }
                _ => None,
            };
        }
        if self.word("between") {
            let low = self.operand()?;
            let high = self.word("and").then(|| self.operand())??;
            let at_least = Comparison::Compare(left.clone(), Operator::AtLeast, low);
            return Some(vec![at_least, Comparison::Compare(left, Operator::AtMost, high)]);
        }
        if self.word("in") {
            let values = self.list("(", ")")?;
            return one_of(left, values);
        }
        let operators = [
            ("<=", Operator::AtMost),
            (">=", Operator::AtLeast),
            ("<", Operator::Less),
            (">", Operator::Greater),
            ("=", Operator::Equal),
        ];
        let operator = operators.into_iter().find(|(sign, _)| self.sign(sign))?.1;
        if operator == Operator::Equal && self.word("any") {
            let opened = self.sign("(");
            let inner = self.sign("(");
            let values = self.word("array").then(|| self.list("[", "]"))??;
            if inner && !self.sign(")") {
                return None;
            }
            self.casts()?;
            return if opened && self.sign(")") { one_of(left, values) } else { None };
        }
        let right = self.operand()?;
        Some(vec![Comparison::Compare(left, operator, right)])
    }

    fn list(&mut self, open: &str, close: &str) -> Option<Vec<Operand>> {
        let mut values = Vec::new();
        if !self.sign(open) {
            return None;
        }
        loop {
            values.push(self.operand()?);
            if self.sign(close) {
                return Some(values);
            }
            if !self.sign(",") {
                return None;
            }
        }
    }

    fn operand(&mut self) -> Option<Operand> {
        let operand = if self.sign("(") {
            let inner = self.operand()?;
            if !self.sign(")") {
                return None;
            }
            inner
        } else if self.sign("-") {
            match self.operand()? {
                Operand::Number(number) => Operand::Number(-number),
                _ => return None,
            }
        } else {
            let token = self.tokens.get(self.at)?.clone();
            self.at += 1;
            match token {
                Token::Number(number) => Operand::Number(number),
                Token::Text(text) => Operand::Text(text),
                Token::Quoted(name) => Operand::Column(name),
                Token::Word(word) => match word.as_str() {
                    "true" | "false" => Operand::Text(word),
                    // A constant with its type in front of it.
                    "date" | "timestamp" | "timestamptz" | "time"
                        if matches!(self.tokens.get(self.at), Some(Token::Text(_))) =>
                    {
                        return self.operand();
                    }
                    "and" | "or" | "not" | "null" | "between" | "in" | "is" => return None,
                    _ => Operand::Column(word),
                },
                Token::Sign(_) => return None,
            }
        };
        self.casts()?;
        // A function's call, or arithmetic.
        let next = self.tokens.get(self.at);
        let other = matches!(next, Some(Token::Sign("(" | "[" | "." | "+" | "-")));
        (!other).then_some(operand)
    }

    /// Skips casts, such as `::numeric` or `::character varying(10)[]`.
    fn casts(&mut self) -> Option<()> {
        const SECOND: [&str; 6] = ["precision", "varying", "without", "with", "time", "zone"];
        while self.sign("::") {
            match self.tokens.get(self.at)? {
                Token::Word(_) | Token::Quoted(_) => self.at += 1,
                _ => return None,
            }
            while self.sign(".") {
                self.at += 1;
            }
            while SECOND.iter().any(|word| self.word(word)) {}
            if self.sign("(") {
                self.list_of_numbers()?;
            }
            while SECOND.iter().any(|word| self.word(word)) {}
            while self.sign("[") {
                if !self.sign("]") {
                    return None;
                }
            }
        }
        Some(())
    }

    fn list_of_numbers(&mut self) -> Option<()> {
        loop {
            match self.tokens.get(self.at)? {
                Token::Number(_) | Token::Sign(",") => self.at += 1,
                Token::Sign(")") => {
                    self.at += 1;
                    return Some(());
                }
                _ => return None,
            }
        }
    }
}

fn one_of(left: Operand, values: Vec<Operand>) -> Option<Vec<Comparison>> {
    match left {
        Operand::Column(column) if !values.iter().any(|value| matches!(value, Operand::Column(_))) => {
            Some(vec![Comparison::OneOf(column, values)])
        }
        _ => None,
    }
}
