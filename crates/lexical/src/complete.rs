//! Words that complete what someone has begun to write.

use runtime::error::Result;
use runtime::progress::Progress;

use crate::guard::reading;
use crate::index::Lexical;
use crate::query::expand::all_beginning_with;
use crate::query::parse::check_length;
use crate::text::analyzer::last_word;

impl Lexical {
    /// The `k` words in most rows that begin with the last word of `text`, with the number of those rows: as they are written, in lower
    /// case. Equally frequent ones are in the order of their characters.
    pub fn complete(&self, text: &str, k: usize, progress: &dyn Progress) -> Result<Vec<(String, u64)>> {
        check_length(text)?;
        let prefix = last_word(text, progress)?;
        if prefix.is_empty() || k == 0 {
            return Ok(Vec::new());
        }
        reading(|| {
            Ok(all_beginning_with(self, &prefix, k, progress)?
                .into_iter()
                .map(|found| (found.word, found.frequency))
                .collect())
        })
    }
}
