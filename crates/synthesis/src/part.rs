//! The generator of one table's rows, with its schema.

use crate::schema::{Role, Schema};
use crate::synthesizer::Generator;
use crate::text::FreeText;
use runtime::error::Result;
use runtime::progress::Progress;

/// Draws the rows of one table.
pub struct Part {
    pub schema: Schema,
    pub generator: Box<dyn Generator>,
    /// Hashes of the source's rows, for each unique constraint of the schema.
    pub unique: Vec<Vec<u64>>,
    /// [columns]: for free text.
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

    /// A new text for `column` that begins like text number `donor` of the source.
    pub fn text(&self, column: usize, donor: u32, seed: u64) -> String {
        self.texts
            .get(column)
            .and_then(Option::as_ref)
            .map_or_else(String::new, |text| text.generate(donor as usize, seed))
    }
}
