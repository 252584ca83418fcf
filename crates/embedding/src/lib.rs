//! Embeddings of texts and images, scores of pairs of texts, and arithmetic on vectors.
//!
//! A text is tokenised (Hugging Face `tokenizers`), truncated to the model's length, batched with texts of similar length, run, and pooled unless
//! the graph does. The vector of a text does not depend on its batch.

pub mod config;
pub mod cross_encoder;
pub mod image;
pub mod text;
pub mod text_graph;
pub mod tokenizer;
pub mod trial;
pub mod vector;

pub use config::{ImageConfig, PairConfig, TextConfig};
pub use cross_encoder::CrossEncoder;
pub use image::ImageEmbedder;
pub use text::TextEmbedder;
pub use text_graph::TextGraph;
pub use tokenizer::TextTokenizer;
pub use tokenizer::pair::PairTokenizer;
