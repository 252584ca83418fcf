//! The two files of a prepared tokenizer: a small JSON file, and a mapped file with the vocabulary and character maps.
//!
//! The second is safetensors: `pieces`, a trie from piece to id; for Unigram also `scores` by id and `unknown_score`; for
//! each character map `map<n>.places` and `map<n>.texts`. See [`super::trie`] for tries.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use safetensors::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokenizers::{AddedToken, DecoderWrapper, PostProcessorWrapper, PreTokenizerWrapper, Tokenizer, TokenizerImpl};
use yada::builder::DoubleArrayBuilder;

use super::model::{Algorithm, MappedModel};
use super::normalizer::{CharacterMap, MappedNormalizer};
use super::trie::Trie;
use super::unigram::Unigram;
use super::word_piece::WordPiece;
use runtime::error::{Error, Result};

pub type MappedTokenizer =
    TokenizerImpl<MappedModel, MappedNormalizer, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;

/// Longer pieces are left to the crate: building the trie recurses once a byte.
const MAX_PIECE: usize = 512;

/// Below the least likely piece by this much is an unknown character: sentencepiece's constant, in nats.
const UNKNOWN_PENALTY: f64 = 10.0;

/// The model in the JSON file. Floats are in the mapped file, which keeps all bits.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Parameters {
    WordPiece { size: usize, continuation: String, unknown: Option<u32>, max_chars: usize },
    Unigram { size: usize, unknown: Option<u32>, byte_fallback: bool },
}

#[derive(Deserialize)]
struct Small {
    model: Parameters,
    added_tokens: Vec<AddedToken>,
    normalizer: Value,
    pre_tokenizer: Option<PreTokenizerWrapper>,
    post_processor: Option<PostProcessorWrapper>,
}

/// The two files for a `tokenizer.json`; `None` if only the crate supports its model, or if it is invalid.
pub fn prepare(json: &[u8]) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
    let Ok(Value::Object(mut root)) = serde_json::from_slice(json) else { return Ok(None) };
    let mut tensors = Vec::new();
    let Some(model) = root.get_mut("model").and_then(|model| read_model(model.take(), &mut tensors)) else {
        return Ok(None);
    };
    // Character maps before the rest is checked: the crate panics at one that is faulty.
    let mut normalizer = root.get("normalizer").cloned().unwrap_or_default();
    take_maps(&mut normalizer, &mut tensors)?;
    // The crate judges everything but the model, for which the least there is stands in.
    root.insert("model".into(), json!({"type": "WordLevel", "vocab": {}, "unk_token": ""}));
    Tokenizer::from_bytes(Value::Object(root.clone()).to_string()).map_err(|e| Error::NotTokenizer(e.to_string()))?;

    let small = json!({
        "model": model,
        "added_tokens": root.remove("added_tokens").unwrap_or(json!([])),
        "normalizer": normalizer,
        "pre_tokenizer": root.remove("pre_tokenizer"),
        "post_processor": root.remove("post_processor"),
    });
    let tensors = tensors.iter().map(|(name, tensor)| (name, tensor));
    let mapped = safetensors::serialize(tensors, None)
        .map_err(|e| Error::Internal(format!("could not serialize the vocabulary: {e}")))?;
    Ok(Some((small.to_string().into_bytes(), mapped)))
}

fn read_model(model: Value, tensors: &mut Vec<(String, Tensor)>) -> Option<Parameters> {
    #[derive(Deserialize)]
    struct WordPieceModel {
        vocab: BTreeMap<String, u32>,
        unk_token: String,
        continuing_subword_prefix: String,
        max_input_chars_per_word: usize,
    }
    #[derive(Deserialize)]
    struct UnigramModel {
        vocab: Vec<(String, f64)>,
        unk_id: Option<usize>,
        #[serde(default)]
        byte_fallback: bool,
    }
    // Without a type the crate guesses: that is left to it.
    match model.get("type")?.as_str()? {
        "WordPiece" => {
            let model: WordPieceModel = serde_json::from_value(model).ok()?;
            tensors.push(("pieces".into(), Tensor::bytes(trie(&model.vocab)?)));
            Some(Parameters::WordPiece {
                size: model.vocab.len(),
                unknown: model.vocab.get(&model.unk_token).copied(),
                continuation: model.continuing_subword_prefix,
                max_chars: model.max_input_chars_per_word,
            })
        }
        "Unigram" => {
            let model: UnigramModel = serde_json::from_value(model).ok()?;
            if model.unk_id.is_some_and(|id| id >= model.vocab.len()) {
                return None;
            }
            // Of a piece that is there twice the last one counts.
            let ids: BTreeMap<&str, u32> =
                model.vocab.iter().zip(0..).map(|((piece, _), id)| (piece.as_str(), id)).collect();
            let scores = || model.vocab.iter().map(|(_, score)| *score);
            let least = scores().fold(f64::INFINITY, |least, score| if score < least { score } else { least });
            tensors.push(("pieces".into(), Tensor::bytes(trie(&ids)?)));
            tensors.push(("scores".into(), Tensor::floats(scores())));
            tensors.push(("unknown_score".into(), Tensor::floats([least - UNKNOWN_PENALTY].into_iter())));
            Some(Parameters::Unigram {
                size: model.vocab.len(),
                unknown: model.unk_id.map(u32::try_from).transpose().ok()?,
                byte_fallback: model.byte_fallback,
            })
        }
        _ => None,
    }
}

/// None where a piece cannot be in a trie: it holds a NUL byte, is very long, or its number takes more than 31 bits.
fn trie<K: AsRef<str>>(ids: &BTreeMap<K, u32>) -> Option<Vec<u8>> {
    let pieces = ids.iter().map(|(piece, id)| (piece.as_ref(), *id));
    // An empty piece stands nowhere in a text.
    let pieces: Vec<(&str, u32)> = pieces.filter(|(piece, _)| !piece.is_empty()).collect();
    match pieces.iter().all(|(piece, _)| piece.len() <= MAX_PIECE) {
        true if pieces.is_empty() => Some(Vec::new()),
        true => DoubleArrayBuilder::build(&pieces).ok(),
        false => None,
    }
}

/// Moves the character maps of a normalizer and of those in it to `tensors`, and leaves their numbers.
fn take_maps(normalizer: &mut Value, tensors: &mut Vec<(String, Tensor)>) -> Result<()> {
    match normalizer.get("type").and_then(Value::as_str) {
        Some("Precompiled") => {
            let faulty = || Error::NotTokenizer("invalid precompiled_charsmap".into());
            let text = normalizer.get("precompiled_charsmap").and_then(Value::as_str).ok_or_else(faulty)?;
            let map = Bytes::from(base64::decode(text).map_err(|_| faulty())?);
            let (places, texts) = CharacterMap::parts(&map).ok_or_else(faulty)?;
            let number = tensors.len();
            tensors.push((format!("map{number}.places"), Tensor::bytes(places.into())));
            tensors.push((format!("map{number}.texts"), Tensor::bytes(texts.into())));
            *normalizer = json!({"type": "CharacterMap", "number": number});
        }
        Some("Sequence") => {
            let all = normalizer.get_mut("normalizers").and_then(Value::as_array_mut);
            all.into_iter().flatten().try_for_each(|one| take_maps(one, tensors))?;
        }
        _ => {}
    }
    Ok(())
}

/// Reads the tokenizer from the two files of [`prepare`], without padding or truncation. The error is a message.
pub fn open(small: &[u8], mapped: &Bytes) -> std::result::Result<MappedTokenizer, String> {
    let small: Small = serde_json::from_slice(small).map_err(|e| e.to_string())?;
    let tensors = SafeTensors::deserialize(mapped).map_err(|e| e.to_string())?;
    let tensor = |name: &str| match tensors.tensor(name) {
        Ok(tensor) => Ok(mapped.slice_ref(tensor.data())),
        Err(e) => Err(e.to_string()),
    };
    let pieces = Trie::new(tensor("pieces")?);
    let (size, algorithm) = match small.model {
        Parameters::WordPiece { size, continuation, unknown, max_chars } => {
            (size, Algorithm::WordPiece(WordPiece::new(pieces, &continuation, unknown, max_chars)))
        }
        Parameters::Unigram { size, unknown, byte_fallback } => {
            let unknown_score = tensor("unknown_score")?.first_chunk().copied().map(f64::from_le_bytes);
            let unknown_score = unknown_score.ok_or("unknown_score has no value")?;
            let unigram = Unigram::new(pieces, tensor("scores")?, unknown, unknown_score, byte_fallback);
            (size, Algorithm::Unigram(unigram))
        }
    };
    let mut tokenizer = MappedTokenizer::new(MappedModel { algorithm, size });
    tokenizer.with_normalizer(open_normalizer(small.normalizer, &tensor)?);
    tokenizer.with_pre_tokenizer(small.pre_tokenizer);
    tokenizer.with_post_processor(small.post_processor);
    // After the normalizer, through which the texts of some go.
    tokenizer.add_tokens(&small.added_tokens);
    Ok(tokenizer)
}

fn open_normalizer(
    normalizer: Value,
    tensor: &dyn Fn(&str) -> std::result::Result<Bytes, String>,
) -> std::result::Result<Option<MappedNormalizer>, String> {
    #[derive(Deserialize)]
    #[serde(tag = "type")]
    enum Own {
        CharacterMap { number: usize },
        Sequence { normalizers: Vec<Value> },
    }
    if normalizer.is_null() {
        return Ok(None);
    }
    let opened = match Own::deserialize(&normalizer) {
        Ok(Own::CharacterMap { number }) => {
            let places = Trie::new(tensor(&format!("map{number}.places"))?);
            MappedNormalizer::CharacterMap(CharacterMap::new(places, tensor(&format!("map{number}.texts"))?))
        }
        Ok(Own::Sequence { normalizers }) => {
            let opened = normalizers.into_iter().filter_map(|one| open_normalizer(one, tensor).transpose());
            MappedNormalizer::Sequence(opened.collect::<std::result::Result<_, String>>()?)
        }
        Err(_) => MappedNormalizer::Kept(serde_json::from_value(normalizer).map_err(|e| e.to_string())?),
    };
    Ok(Some(opened))
}

struct Tensor {
    dtype: Dtype,
    shape: [usize; 1],
    bytes: Vec<u8>,
}

impl Tensor {
    fn bytes(bytes: Vec<u8>) -> Self {
        Self { dtype: Dtype::U8, shape: [bytes.len()], bytes }
    }

    fn floats(values: impl Iterator<Item = f64>) -> Self {
        let bytes: Vec<u8> = values.flat_map(f64::to_le_bytes).collect();
        Self { dtype: Dtype::F64, shape: [bytes.len() / 8], bytes }
    }
}

impl View for &Tensor {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}
