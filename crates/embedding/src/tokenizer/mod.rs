//! Texts to token ids, exactly as with the model's published tokenizer.
//!
//! Everything but the vocabulary is done by the `tokenizers` crate. Its vocabularies are hash tables that each process would have to parse and
//! hold (210 ms and 120 MB for 128,000 pieces). WordPiece and Unigram are therefore implemented here, on a file that all processes map: opening
//! takes a millisecond. Other kinds use the crate.

#[cfg(test)]
pub(crate) mod fixtures;
mod model;
mod normalizer;
pub mod pair;
mod prepared;
#[cfg(test)]
mod tests;
mod token;
mod trie;
mod unigram;
mod word_piece;

use std::fs::{self, File};
use std::io;
use std::path::Path;

use bytes::Bytes;
use memmap2::Mmap;
use tokenizers::utils::truncation::{TruncationDirection, TruncationParams, TruncationStrategy};
use tokenizers::{Encoding, Model, Normalizer, PostProcessor, PostProcessorWrapper, Tokenizer, TokenizerImpl};

use prepared::MappedTokenizer;
use runtime::error::{Error, Result};
use runtime::jobs::Relay;
use runtime::parallel;
use runtime::progress::Progress;

/// Texts given to one thread at a time: a few hundred microseconds of work.
const CHUNK: usize = 32;

/// Texts of no more bytes are tokenized on the calling thread: it takes about a millisecond, and starting another one a tenth of that.
const MAX_INLINE: usize = 8 << 10;

/// Bytes of a text, at most, that are read to fill a model of no more tokens than they surely hold: a tenth of a second.
const MAX_READ: usize = 128 << 10;

/// Bytes of text that surely hold more than one token of the model's length, in all but odd texts; see [`head`].
const BYTES_PER_TOKEN: usize = 32;

/// The JSON file of a prepared tokenizer, or the whole `tokenizer.json` if there is no [`MAPPED_FILE`].
const JSON_FILE: &str = "tokenizer.json";
const MAPPED_FILE: &str = "vocabulary.safetensors";

#[derive(Debug)]
pub struct TextTokenizer {
    tokenizer: Kind,
    max_length: usize,
}

#[derive(Debug)]
enum Kind {
    Mapped(Box<MappedTokenizer>),
    Whole(Box<Tokenizer>),
}

impl TextTokenizer {
    /// Name for the folder that [`Self::prepare`] fills; with the number of the form of its files.
    pub const PREPARED: &str = "tokenizer-1";

    /// Checks a `tokenizer.json` and writes to `folder`, which is there and empty, what [`Self::open`] reads: the same
    /// bytes each time. Nothing is synced to disk.
    pub fn prepare(json: &[u8], folder: &Path) -> Result<()> {
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.join(name);
            fs::write(&path, bytes).map_err(|source| file_error("write", &path, source))
        };
        match prepared::prepare(json)? {
            Some((small, mapped)) => {
                write(JSON_FILE, &small)?;
                write(MAPPED_FILE, &mapped)
            }
            None => {
                parse(json)?;
                write(JSON_FILE, json)
            }
        }
    }

    /// Opens the files of [`Self::prepare`]. The published padding and truncation are ignored, since they are often shorter than the model's
    /// length.
    ///
    /// `folder` must not change while the tokenizer lives. Damaged files give an error here, or wrong ids later.
    pub fn open(folder: &Path, max_length: usize) -> Result<Self> {
        let mut tokenizer = Kind::open(folder)?;
        match &mut tokenizer {
            Kind::Mapped(tokenizer) => truncate(tokenizer, max_length)?,
            Kind::Whole(tokenizer) => truncate(tokenizer, max_length)?,
        }
        Ok(Self { tokenizer, max_length })
    }

    /// Token ids of each of `texts` with `prefix` before it, special tokens included, at most `max_length` each.
    pub fn tokenize(
        &self,
        texts: &[&str],
        prefix: &str,
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Vec<Vec<u32>>> {
        each(texts, threads, progress, |text| self.one(text, prefix))
    }

    fn one(&self, text: &str, prefix: &str) -> Result<Vec<u32>> {
        let encoding = self.tokenizer.encode(text, prefix, self.max_length, self.max_length)?;
        Ok(encoding.get_ids().to_vec())
    }
}

impl Kind {
    /// Without padding or truncation.
    fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(JSON_FILE);
        let json = fs::read(&path).map_err(|source| file_error("read", &path, source))?;
        if let Some(mapped) = map(&folder.join(MAPPED_FILE))? {
            let opened = prepared::open(&json, &mapped);
            let damaged = |reason| file_error("use", folder, io::Error::new(io::ErrorKind::InvalidData, reason));
            return Ok(Self::Mapped(Box::new(opened.map_err(damaged)?)));
        }
        let mut tokenizer = parse(&json)?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|e| Error::NotTokenizer(e.to_string()))?;
        Ok(Self::Whole(Box::new(tokenizer)))
    }

    /// The tokens of `text` with `prefix` before it, or of its beginning if that has `enough`.
    ///
    /// A long text is only read until it has enough tokens: a text of a megabyte costs no more than a page. A text with too few tokens in its first
    /// [`MAX_READ`] bytes is an error, since all of it would have to be read. `max_length` is that of the model.
    fn encode(&self, text: &str, prefix: &str, enough: usize, max_length: usize) -> Result<Encoding> {
        let mut bytes = (max_length + 1) * BYTES_PER_TOKEN;
        let most = bytes.max(MAX_READ);
        loop {
            let part = head(text, bytes);
            let input = if prefix.is_empty() { part.into() } else { format!("{prefix}{part}") };
            let encoding = match self {
                Self::Mapped(tokenizer) => tokenizer.encode_fast(input.as_str(), true),
                Self::Whole(tokenizer) => tokenizer.encode_fast(input.as_str(), true),
            }
            .map_err(failed)?;
            if encoding.len() >= enough || part.len() == text.len() {
                return Ok(encoding);
            }
            if bytes == most {
                return Err(Error::TooLarge {
                    what: format!("text with {} tokens in its first {most} bytes", encoding.len()),
                    needed: format!("{} bytes to be read", text.len()),
                    limit: format!("{most} bytes for the model's {max_length} tokens"),
                    hint: "Remove whitespace, control characters and meaningless words, or pass left(text, 100000)."
                        .into(),
                });
            }
            bytes = bytes.saturating_mul(4).min(most);
        }
    }
}

/// Calls `one` for each text, on several threads if there is much to read.
fn each(
    texts: &[&str],
    threads: usize,
    progress: &dyn Progress,
    one: impl Fn(&str) -> Result<Vec<u32>> + Sync,
) -> Result<Vec<Vec<u32>>> {
    if texts.iter().map(|text| text.len()).sum::<usize>() <= MAX_INLINE {
        progress.check()?;
        return texts.iter().map(|text| one(text)).collect();
    }
    let mut tokens = vec![Vec::new(); texts.len()];
    let relay = Relay::new(progress);
    parallel::for_each_chunk(
        &mut tokens,
        CHUNK,
        threads,
        &relay,
        || (),
        |_, number, out| {
            for (tokens, text) in out.iter_mut().zip(&texts[number * CHUNK..]) {
                relay.signal.check()?;
                *tokens = one(text)?;
            }
            Ok(())
        },
    )?;
    Ok(tokens)
}

/// At most `bytes` bytes of `text`, cut at whitespace if there is some in the second half, so that no word is split.
fn head(text: &str, bytes: usize) -> &str {
    if text.len() <= bytes {
        return text;
    }
    let end = (0..=bytes).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
    match text[..end].rfind(char::is_whitespace) {
        Some(blank) if blank > bytes / 2 => &text[..blank],
        _ => &text[..end],
    }
}

fn failed(error: tokenizers::Error) -> Error {
    Error::Internal(format!("tokenizer failed: {error}"))
}

fn parse(json: &[u8]) -> Result<Tokenizer> {
    Tokenizer::from_bytes(json).map_err(|e| Error::NotTokenizer(e.to_string()))
}

fn truncate<M: Model, N: Normalizer>(
    tokenizer: &mut TokenizerImpl<
        M,
        N,
        tokenizers::PreTokenizerWrapper,
        PostProcessorWrapper,
        tokenizers::DecoderWrapper,
    >,
    max_length: usize,
) -> Result<()> {
    // The crate subtracts one from the other.
    let special = tokenizer.get_post_processor().map_or(0, |processor| processor.added_tokens(false));
    if max_length < special {
        let hint =
            format!("The value must be at least {special}, the number of tokens that the tokenizer adds to each text.");
        return Err(Error::argument("\"max_length\" in config", max_length, hint));
    }
    let truncation = TruncationParams {
        max_length,
        strategy: TruncationStrategy::LongestFirst,
        stride: 0,
        direction: TruncationDirection::Right,
    };
    tokenizer.with_truncation(Some(truncation)).map_err(|e| Error::NotTokenizer(e.to_string()))?;
    Ok(())
}

/// The mapped bytes of a file; `None` if it does not exist.
fn map(path: &Path) -> Result<Option<Bytes>> {
    let file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(|source| file_error("map", path, source))?,
    };
    // SAFETY: nobody writes to a prepared folder once it is opened, as `TextTokenizer::open` asks for.
    let map = unsafe { Mmap::map(&file) }.map_err(|source| file_error("map", path, source))?;
    Ok(Some(Bytes::from_owner(map)))
}

fn file_error(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::File { action, path: path.display().to_string(), source }
}
