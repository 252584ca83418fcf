//! Texts and images to vectors, and arithmetic on vectors.
//!
//! A text is tokenised (Hugging Face `tokenizers`), truncated to the model's length, put into a batch with texts of like
//! length, run, and pooled where the graph does not pool. A text's vector does not depend on its batch.

pub mod config;
pub mod image;
pub mod text;
pub mod tokenizer;
pub mod vector;

pub use config::{ImageConfig, TextConfig};
pub use image::ImageEmbedder;
pub use text::TextEmbedder;
pub use tokenizer::TextTokenizer;
