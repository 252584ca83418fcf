//! `bootstrap`: rows of the source, drawn with replacement (Efron 1979).

use super::augmentation::Augmentation;
use super::columns::NumberColumn;
use super::pick::Pick;

pub struct Bootstrap;

impl Augmentation for Bootstrap {
    fn name(&self) -> &'static str {
        "bootstrap"
    }

    fn number(&self, column: &NumberColumn, pick: &Pick) -> f64 {
        column.base(pick)
    }
}
