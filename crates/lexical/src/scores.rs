//! What a query says about rows.

/// What a query says about one field of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FieldScores {
    /// The sum of the terms' scores, with the field's weight.
    pub score: f32,
    /// The share of the query's words that the field has, from 0 to 1.
    pub share: f32,
    /// The same of its terms, each counted by its idf in the field: a rare word missing weighs more than a common one.
    pub idf_share: f32,
    /// The share of the query's neighbours that are neighbours in the field, and of those that stand in this order, however far apart.
    pub neighbours: f32,
    pub ordered: f32,
}

/// What a query says about one row.
#[derive(Clone, Debug, PartialEq)]
pub struct RowScores {
    pub row: u32,
    /// As [`Lexical::search`](crate::Lexical::search) gives it; 0 without a match.
    pub score: f32,
    pub fields: Vec<FieldScores>,
    /// The part of the query's words that the row has, from 0 to 1.
    pub share: f32,
}
