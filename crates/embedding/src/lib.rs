//! Embeddings of texts and images, and arithmetic on vectors.
//!
//! A text is tokenised (Hugging Face `tokenizers`), truncated to the model's length, batched with texts of similar length, run, and pooled unless
//! the graph does. The vector of a text does not depend on its batch.

pub mod config;
pub mod image;
pub mod text;
pub mod text_graph;
pub mod tokenizer;
pub mod trial;
pub mod vector;

pub use config::{ImageConfig, TextConfig};
pub use image::ImageEmbedder;
pub use text::TextEmbedder;
pub use text_graph::TextGraph;
pub use tokenizer::TextTokenizer;
