//! What makes the rows of one table.

use crate::schema::{Role, Schema};
use crate::synthesizer::Generator;
use crate::text::FreeText;
use runtime::error::Result;
use runtime::progress::Progress;

/// What makes the rows of one table.
pub struct Part {
    pub schema: Schema,
    pub generator: Box<dyn Generator>,
    /// Hashes of the source's rows for each of the schema's unique groups.
    pub unique: Vec<Vec<u64>>,
    /// Of each column of free text.
    texts: Vec<Option<FreeText>>,
}

impl Part {
    pub fn new(
        schema: Schema,
        generator: Box<dyn Generator>,
        unique: Vec<Vec<u64>>,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let texts = schema.columns.iter().map(|column| match &column.role {
            Role::FreeText { names, .. } => {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                FreeText::fit(&names, progress).map(Some)
            }
            _ => Ok(None),
        });
        let texts = texts.collect::<Result<_>>()?;
        Ok(Self { schema, generator, unique, texts })
    }

    /// A text of column `column` that begins as the one of number `donor`.
    pub fn text(&self, column: usize, donor: u32, seed: u64) -> String {
        self.texts
            .get(column)
            .and_then(Option::as_ref)
            .map_or_else(String::new, |text| text.generate(donor as usize, seed))
    }
}
