//! Normalizers of the `tokenizers` crate, but for sentencepiece's character map, which is mapped.
//!
//! The crate's own takes 1.8 MB of each process and 1.5 ms to read for a map of 240 kB, which it copies several times.

use bytes::Bytes;
use tokenizers::{NormalizedString, Normalizer, NormalizerWrapper};
use unicode_segmentation::UnicodeSegmentation;

use super::trie::Trie;

#[derive(Debug)]
pub enum MappedNormalizer {
    CharacterMap(CharacterMap),
    Sequence(Vec<MappedNormalizer>),
    Kept(NormalizerWrapper),
}

impl Normalizer for MappedNormalizer {
    fn normalize(&self, text: &mut NormalizedString) -> tokenizers::Result<()> {
        match self {
            Self::CharacterMap(map) => map.normalize(text),
            Self::Sequence(all) => all.iter().try_for_each(|one| one.normalize(text)),
            Self::Kept(kept) => kept.normalize(text),
        }
    }
}

/// Which characters become which, such as `™` `TM`: sentencepiece's `precompiled_charsmap`.
#[derive(Debug)]
pub struct CharacterMap {
    /// What is replaced, to the place of its replacement in `texts`.
    places: Trie,
    /// UTF-8; each replacement ends with a zero byte.
    texts: Bytes,
}

/// A grapheme of more bytes is replaced character by character, as sentencepiece's users have come to rely on.
const MAX_GRAPHEME: usize = 5;

impl CharacterMap {
    pub fn new(places: Trie, texts: Bytes) -> Self {
        Self { places, texts }
    }

    /// The two parts of a `precompiled_charsmap`: a trie's bytes, with their number in front, and texts.
    pub fn parts(charsmap: &Bytes) -> Option<(Bytes, Bytes)> {
        let size = u32::from_le_bytes(*charsmap.first_chunk()?) as usize / 4 * 4;
        let places = charsmap.get(4..4 + size)?;
        let texts = &charsmap[4 + size..];
        std::str::from_utf8(texts).ok()?;
        Some((charsmap.slice_ref(places), charsmap.slice_ref(texts)))
    }

    /// What stands for `part`. Of several entries that `part` begins with the shortest counts, and for all of `part`.
    fn replacement(&self, part: &str) -> Option<&str> {
        let (_, place) = self.places.prefixes(self.places.root()?, part.as_bytes()).next()?;
        let text = self.texts.get(place as usize..)?;
        let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
        std::str::from_utf8(&text[..end]).ok()
    }

    fn normalize(&self, text: &mut NormalizedString) -> tokenizers::Result<()> {
        let mut out = Vec::with_capacity(text.get().len());
        let mut is_changed = false;
        for grapheme in text.get().graphemes(true) {
            let whole = if grapheme.len() <= MAX_GRAPHEME { self.replacement(grapheme) } else { None };
            if let Some(replacement) = whole {
                is_changed = true;
                replace(grapheme, replacement, &mut out);
                continue;
            }
            for (start, character) in grapheme.char_indices() {
                let part = &grapheme[start..start + character.len_utf8()];
                if let Some(replacement) = self.replacement(part) {
                    is_changed = true;
                    replace(part, replacement, &mut out);
                } else {
                    out.push((character, 0));
                }
            }
        }
        if is_changed {
            text.transform(out, 0);
        }
        Ok(())
    }
}

/// Appends `new` with, for each character, how many more (1) or fewer (negative) it stands for than in `old`: a
/// [`NormalizedString`] keeps to which place of the original each belongs, and some pre-tokenizers ask for that.
fn replace(old: &str, new: &str, out: &mut Vec<(char, isize)>) {
    out.extend(new.chars().map(|character| (character, 0)));
    let added = new.chars().count() as isize - old.chars().count() as isize;
    if added > 0 {
        out.iter_mut().rev().take(added as usize).for_each(|(_, change)| *change = 1);
    } else if let Some((_, change)) = out.last_mut() {
        *change += added;
    }
}
