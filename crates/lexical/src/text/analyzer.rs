//! The tokens of a text.

use std::ops::Range;

use runtime::error::Result;
use runtime::progress::Progress;

use super::classes::{Class, class};
use super::compound::{self, Piece};
use super::fold::{self, Folded};
use super::language::{Language, Stems};
use super::segmenter::Segmenter;
use super::{Kind, MAX_TERM, Token, units};

/// The longest run without spaces that is cut into words at once.
const MAX_RUN: usize = 1000;

/// Analyzes texts and queries of one language.
pub struct Analyzer {
    stems: Stems,
}

impl Analyzer {
    pub fn new(language: Language) -> Self {
        Self { stems: Stems::new(language) }
    }

    pub fn stem(&self, word: &str) -> String {
        cut(&self.stems.stem(word)).to_string()
    }

    /// The term of a word that was written in lower case.
    pub fn term(&self, word: &str) -> String {
        units::alone(word).map_or_else(|| self.stem(word), str::to_string)
    }

    /// The tokens in order of their positions.
    pub fn tokens(&self, text: &str, segmenter: &mut dyn Segmenter, progress: &dyn Progress) -> Result<Vec<Token>> {
        let folded = fold::fold(text, progress)?;
        let mut reader =
            Reader { stems: &self.stems, text: &folded, tokens: Vec::new(), position: 0, word: 0, measure: None };
        let (mut at, mut steps) = (0, 0usize);
        while at < folded.len() {
            steps += 1;
            if steps.is_multiple_of(1 << 12) {
                progress.check()?;
            }
            at = match class(folded[at].ch) {
                Class::Letter | Class::Digit => reader.compound(at),
                Class::Unspaced => reader.run(at, segmenter),
                Class::Symbol => reader.symbol(at),
                Class::Other => reader.other(at),
            };
        }
        let mut tokens = reader.tokens;
        tokens.sort_by_key(|token| token.position);
        Ok(tokens)
    }
}

/// What is written of the last word, folded: to be completed. A run of a script without spaces is a word.
pub fn last_word(text: &str, progress: &dyn Progress) -> Result<String> {
    let folded = fold::fold(text, progress)?;
    let is_unspaced = |folded: &Folded| class(folded.ch) == Class::Unspaced;
    let runs = folded.chunk_by(|a, b| is_unspaced(a) == is_unspaced(b));
    let Some(run) = runs.last().filter(|run| !run[run.len() - 1].ch.is_whitespace()) else { return Ok(String::new()) };
    let word = run.rsplit(|folded| folded.ch.is_whitespace()).next().unwrap_or(run);
    Ok(word.iter().map(|folded| folded.ch).filter(|&ch| class(ch) != Class::Other).take(MAX_TERM).collect())
}

/// The first [`MAX_TERM`] characters.
fn cut(word: &str) -> &str {
    word.char_indices().nth(MAX_TERM).map_or(word, |(end, _)| &word[..end])
}

/// A number whose unit may come next.
struct Measure {
    number: String,
    position: u32,
    word: u32,
    start: usize,
    end: usize,
}

struct Reader<'a> {
    stems: &'a Stems,
    text: &'a [Folded],
    tokens: Vec<Token>,
    position: u32,
    word: u32,
    measure: Option<Measure>,
}

impl Reader<'_> {
    fn push(&mut self, kind: Kind, surface: &str, term: String, position: u32, word: u32, range: Range<usize>) {
        let surface = cut(surface);
        let unstemmed = (surface != term).then(|| surface.to_string());
        let is_stop_word = kind == Kind::Word && self.stems.is_stop_word(surface);
        let range = fold::bytes(&self.text[range]);
        self.tokens.push(Token { term, unstemmed, kind, position, word, is_stop_word, range });
    }

    fn stem(&self, word: &str) -> String {
        cut(&self.stems.stem(word)).to_string()
    }

    /// Letters and digits from `start`. The end.
    fn compound(&mut self, start: usize) -> usize {
        let mut pieces = compound::pieces(self.text, start);
        let end = pieces.last().map_or(start + 1, |piece| piece.end);
        self.drop_possessive(&mut pieces);
        match pieces.as_slice() {
            [piece] => self.single(piece),
            pieces => self.parts(pieces),
        }
        self.word += 1;
        end
    }

    /// `men's` is `men`.
    fn drop_possessive(&self, pieces: &mut Vec<Piece>) {
        let is_possessive = |piece: &Piece| piece.text == "s" && piece.connector == Some('\'');
        if self.stems.language() == Language::English && pieces.len() > 1 && pieces.last().is_some_and(is_possessive) {
            pieces.pop();
        }
    }

    fn single(&mut self, piece: &Piece) {
        let (position, word, range) = (self.position, self.word, piece.start..piece.end);
        self.position += 1;
        if piece.is_number {
            self.push(Kind::Word, &piece.text, cut(&piece.text).to_string(), position, word, range);
            self.measure =
                Some(Measure { number: piece.text.clone(), position, word, start: piece.start, end: piece.end });
            return;
        }
        if let Some((measure, unit)) = self.measure.take().zip(units::after_number(&piece.text))
            && self.follows(&measure, piece)
        {
            return self.measured(&measure, unit, &piece.text, position, range);
        }
        let term = units::alone(&piece.text).map_or_else(|| self.stem(&piece.text), str::to_string);
        self.push(Kind::Word, &piece.text, term, position, word, range);
    }

    /// Whether only spaces stand between a number and its unit. In `3 in 1` there is no inch.
    fn follows(&self, measure: &Measure, piece: &Piece) -> bool {
        let digit_comes =
            self.text[piece.end..].iter().find(|f| f.ch != ' ').is_some_and(|f| class(f.ch) == Class::Digit);
        let gap = &self.text[measure.end..piece.start];
        gap.len() <= 2 && gap.iter().all(|folded| folded.ch == ' ') && !(piece.text == "in" && digit_comes)
    }

    /// A unit at `position` after its number: its name, its symbol, and number and symbol as one.
    fn measured(&mut self, measure: &Measure, unit: (&str, &str), written: &str, position: u32, range: Range<usize>) {
        let (symbol, name) = unit;
        let whole = measure.start..range.end;
        self.push(Kind::Part, written, name.to_string(), position, measure.word, range.clone());
        self.push(Kind::Spelling, symbol, symbol.to_string(), position, measure.word, range);
        if written != symbol && written != name {
            let stem = self.stem(written);
            self.push(Kind::Spelling, written, stem, position, measure.word, whole.clone());
        }
        let joined = format!("{}{symbol}", measure.number);
        self.push(Kind::Joined, &joined, cut(&joined).to_string(), measure.position, measure.word, whole);
    }

    fn parts(&mut self, pieces: &[Piece]) {
        let (first, word) = (self.position, self.word);
        let mut measures = Vec::new();
        let mut at = 0;
        while at < pieces.len() {
            let piece = &pieces[at];
            let (position, range) = (self.position, piece.start..piece.end);
            self.position += 1;
            at += 1;
            let previous = at.checked_sub(2).filter(|&previous| compound::may_be_measure(pieces, previous));
            if let Some((number, unit)) = previous.zip(units::after_number(&piece.text)) {
                let (start, end) = (pieces[number].start, pieces[number].end);
                let measure = Measure { number: pieces[number].text.clone(), position: position - 1, word, start, end };
                self.measured(&measure, unit, &piece.text, position, range);
                measures.push(number..number + 2);
                continue;
            }
            let term = if piece.is_number { cut(&piece.text).to_string() } else { self.stem(&piece.text) };
            self.push(Kind::Part, &piece.text, term, position, word, range);
        }
        for join in compound::joins(pieces).into_iter().filter(|join| !measures.contains(join)) {
            let written: String = pieces[join.clone()].iter().map(|piece| piece.text.as_str()).collect();
            let range = pieces[join.start].start..pieces[join.end - 1].end;
            let stem = self.stem(&written);
            self.push(Kind::Joined, &written, stem, first + join.start as u32, word, range);
        }
        self.measure = pieces.last().filter(|last| last.is_number && last.connector != Some('-')).map(|last| {
            let position = self.position - 1;
            Measure { number: last.text.clone(), position, word, start: last.start, end: last.end }
        });
    }

    /// A run of a script without spaces: its characters, and its words where their first characters are.
    fn run(&mut self, start: usize, segmenter: &mut dyn Segmenter) -> usize {
        self.measure = None;
        let end =
            self.text[start..].iter().take(MAX_RUN).take_while(|f| class(f.ch) == Class::Unspaced).count() + start;
        let run: Vec<char> = self.text[start..end].iter().map(|folded| folded.ch).collect();
        let first = self.position;
        for (number, ch) in run.iter().enumerate() {
            let (at, ch) = (start + number, ch.to_string());
            let (position, word) = (first + number as u32, self.word + number as u32);
            self.push(Kind::Character, &ch.clone(), ch, position, word, at..at + 1);
        }
        for found in segmenter.words(&run) {
            let word: String = run[found.clone()].iter().collect();
            let (position, number) = (first + found.start as u32, self.word + found.start as u32);
            let range = start + found.start..start + found.end;
            self.push(Kind::Word, &word, cut(&word).to_string(), position, number, range);
        }
        self.position += run.len() as u32;
        self.word += run.len() as u32;
        end
    }

    fn symbol(&mut self, at: usize) -> usize {
        self.measure = None;
        let term = self.text[at].ch.to_string();
        self.push(Kind::Word, &term.clone(), term, self.position, self.word, at..at + 1);
        self.position += 1;
        self.word += 1;
        at + 1
    }

    /// Punctuation. A double quote right after a number is the unit of inches.
    fn other(&mut self, at: usize) -> usize {
        match self.text[at].ch {
            ' ' => {}
            '"' => {
                if let Some(measure) = self.measure.take().filter(|measure| measure.end == at) {
                    let position = self.position;
                    self.position += 1;
                    self.measured(&measure, ("in", "inch"), "in", position, at..at + 1);
                }
            }
            _ => self.measure = None,
        }
        at + 1
    }
}
