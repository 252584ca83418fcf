//! The mapped vocabularies as models of the `tokenizers` crate, which brings everything around them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use tokenizers::models::wordpiece::WordPieceTrainer;
use tokenizers::{Model, Token};

use super::unigram::Unigram;
use super::word_piece::WordPiece;

#[derive(Debug)]
pub struct MappedModel {
    pub algorithm: Algorithm,
    /// Pieces of the published vocabulary, double ones included: tokens added to it are numbered from here.
    pub size: usize,
}

#[derive(Debug)]
pub enum Algorithm {
    WordPiece(WordPiece),
    Unigram(Unigram),
}

impl Model for MappedModel {
    /// Asked for by the trait; nothing is trained here.
    type Trainer = WordPieceTrainer;

    fn tokenize(&self, text: &str) -> tokenizers::Result<Vec<Token>> {
        match &self.algorithm {
            Algorithm::WordPiece(model) => model.tokenize(text),
            Algorithm::Unigram(model) => model.tokenize(text),
        }
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        match &self.algorithm {
            Algorithm::WordPiece(model) => model.pieces().get(token.as_bytes()),
            Algorithm::Unigram(model) => model.pieces().get(token.as_bytes()),
        }
    }

    /// Only decoding asks for it, and nothing is decoded here.
    fn id_to_token(&self, _id: u32) -> Option<String> {
        None
    }

    /// As [`Self::id_to_token`].
    fn get_vocab(&self) -> HashMap<String, u32> {
        HashMap::new()
    }

    fn get_vocab_size(&self) -> usize {
        self.size
    }

    fn save(&self, _folder: &Path, _prefix: Option<&str>) -> tokenizers::Result<Vec<PathBuf>> {
        Err("a mapped vocabulary is not saved".into())
    }

    fn get_trainer(&self) -> Self::Trainer {
        WordPieceTrainer::default()
    }
}
