//! The operators of a query: quoted phrases and excluded words. Anything else is text, so that no query is invalid.

use runtime::error::{Error, Result};

/// The longest query, in bytes.
pub const MAX_QUERY: usize = 8 << 10;

/// The parts of a query.
#[derive(Debug, Default, PartialEq)]
pub struct Parsed {
    /// The query without operators and excluded words. Words in quotes are in it as well.
    pub text: String,
    /// What was in quotes: rows must contain it.
    pub phrases: Vec<String>,
    /// What followed a minus: rows must not contain it.
    pub excluded: Vec<String>,
    /// Whether the last word may be unfinished: nothing follows it.
    pub may_continue: bool,
}

fn is_quote(ch: char) -> bool {
    matches!(ch, '"' | '“' | '”' | '„' | '＂')
}

/// An error if the query is too long.
pub fn check_length(query: &str) -> Result<()> {
    if query.len() > MAX_QUERY {
        return Err(Error::TooLarge {
            what: "the query".into(),
            needed: format!("{} bytes", query.len()),
            limit: format!("{MAX_QUERY} bytes"),
            hint: "Pass fewer words.".into(),
        });
    }
    Ok(())
}

/// Whether a query says what rows must or must not contain.
pub fn has_operators(query: &str) -> Result<bool> {
    let parsed = parse(query)?;
    Ok(!parsed.phrases.is_empty() || !parsed.excluded.is_empty())
}

/// An error only if the query is too long.
pub fn parse(query: &str) -> Result<Parsed> {
    check_length(query)?;
    let mut parsed =
        Parsed { may_continue: query.chars().next_back().is_some_and(char::is_alphanumeric), ..Parsed::default() };
    let (mut rest, mut before) = (query, ' ');
    while let Some(ch) = rest.chars().next() {
        let after = &rest[ch.len_utf8()..];
        let next = after.chars().next();
        if ch == '-'
            && (before.is_whitespace() || before == '(')
            && next.is_some_and(|next| next.is_alphanumeric() || is_quote(next))
        {
            let (word, end) = excluded(after);
            parsed.excluded.extend((!word.is_empty()).then(|| word.to_string()));
            parsed.may_continue &= !end.is_empty();
            (rest, before) = (end, ' ');
            parsed.text.push(' ');
        } else if is_quote(ch) && before.is_ascii_digit() {
            // The sign of inches.
            parsed.text.push('"');
            (rest, before) = (after, '"');
        } else if is_quote(ch) {
            let (phrase, end) = quoted(after);
            parsed.text.push(' ');
            parsed.phrases.extend(phrase.filter(|phrase| !phrase.trim().is_empty()).map(str::to_string));
            if let Some(phrase) = phrase {
                parsed.text.push_str(phrase);
                parsed.text.push(' ');
            }
            (rest, before) = (end, ' ');
        } else {
            parsed.text.push(ch);
            (rest, before) = (after, ch);
        }
    }
    Ok(parsed)
}

/// Up to the closing quote, and what comes after it. Without one there is no phrase.
fn quoted(text: &str) -> (Option<&str>, &str) {
    let close = text.char_indices().find(|&(_, ch)| is_quote(ch));
    close.map_or((None, text), |(at, ch)| (Some(&text[..at]), &text[at + ch.len_utf8()..]))
}

/// The word or the phrase after a minus, and what comes after it.
fn excluded(text: &str) -> (&str, &str) {
    if let Some(quote) = text.chars().next().filter(|&ch| is_quote(ch)) {
        let text = &text[quote.len_utf8()..];
        let (phrase, rest) = quoted(text);
        return phrase.map_or((text, ""), |phrase| (phrase, rest));
    }
    text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(query: &str) -> (String, Vec<String>, Vec<String>, bool) {
        let parsed = parse(query).unwrap();
        let text = parsed.text.split_whitespace().collect::<Vec<_>>().join(" ");
        (text, parsed.phrases, parsed.excluded, parsed.may_continue)
    }

    #[test]
    fn operators_are_taken_out_of_the_text() {
        for (query, text, phrases, excluded, may_continue) in [
            ("red shoes", "red shoes", vec![], vec![], true),
            ("red shoes ", "red shoes", vec![], vec![], false),
            ("red -blue shoes", "red shoes", vec![], vec!["blue"], true),
            ("shoes -blue", "shoes", vec![], vec!["blue"], false),
            ("\"red shoes\" men", "red shoes men", vec!["red shoes"], vec![], true),
            ("-\"red shoes\" men", "men", vec![], vec!["red shoes"], true),
            ("wh-1000 - x", "wh-1000 - x", vec![], vec![], true),
            ("55\" tv \"smart tv\"", "55\" tv smart tv", vec!["smart tv"], vec![], false),
            ("\"unbalanced", "unbalanced", vec![], vec![], true),
            ("\"\" - -- +a && (b", "- -- +a && (b", vec![], vec![], true),
            ("“红色 手机”壳", "红色 手机 壳", vec!["红色 手机"], vec![], true),
            ("-", "-", vec![], vec![], false),
        ] {
            let expected = (
                text.to_string(),
                phrases.iter().map(|s| s.to_string()).collect(),
                excluded.iter().map(|s| s.to_string()).collect(),
                may_continue,
            );
            assert_eq!(parts(query), expected, "{query}");
        }
    }

    #[test]
    fn a_query_that_is_too_long_is_an_error_that_names_the_limit() {
        assert!(parse(&"a".repeat(MAX_QUERY)).is_ok());
        let error = parse(&"a".repeat(MAX_QUERY + 1)).unwrap_err().to_string();
        assert_eq!(error, "the query needs 8193 bytes, but the limit is 8192 bytes");
    }
}
