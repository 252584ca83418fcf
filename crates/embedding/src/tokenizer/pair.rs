//! Pairs of texts to token ids, put together by the tokenizer's own post-processor: `[CLS] query [SEP] text [SEP]`, or whatever its model
//! was trained with.

use std::path::Path;

use serde_json::Value;
use tokenizers::{Encoding, Model, Normalizer, PostProcessor, PostProcessorWrapper, Token, TokenizerImpl};

use super::{Kind, each, failed};
use runtime::error::{Error, Result};
use runtime::progress::Progress;

/// A token of a pair has its segment above this bit, and its id below.
const SEGMENT_SHIFT: u32 = 30;

/// Ids of a trial: no vocabulary has them.
const TRIAL: [u32; 2] = [u32::MAX - 1, u32::MAX];

/// The id and the segment of a token of a pair.
pub fn id_and_segment(token: u32) -> (u32, u32) {
    (token & ((1 << SEGMENT_SHIFT) - 1), token >> SEGMENT_SHIFT)
}

fn pair_token(id: u32, segment: u32) -> Result<u32> {
    if id_and_segment(id) != (id, 0) || segment >= 1 << (u32::BITS - SEGMENT_SHIFT) {
        return Err(Error::NotTokenizer(format!("token {id} of segment {segment} is out of range")));
    }
    Ok(segment << SEGMENT_SHIFT | id)
}

#[derive(Debug)]
pub struct PairTokenizer {
    /// Without the post-processor.
    tokenizer: Kind,
    processor: PostProcessorWrapper,
    max_length: usize,
    /// The number of special tokens of a pair.
    special: usize,
}

impl PairTokenizer {
    /// Opens the files of [`prepare`](super::TextTokenizer::prepare), as [`open`](super::TextTokenizer::open) does. An error if the tokenizer has
    /// no template for pairs.
    pub fn open(folder: &Path, max_length: usize) -> Result<Self> {
        let mut tokenizer = Kind::open(folder)?;
        let processor = match &mut tokenizer {
            Kind::Mapped(tokenizer) => take_processor(tokenizer),
            Kind::Whole(tokenizer) => take_processor(tokenizer),
        };
        let processor = processor.filter(|processor| processor.added_tokens(true) > 0).ok_or_else(|| {
            Error::invalid(
                "tokenizer does not separate the texts of a pair",
                "Pass the tokenizer.json of a cross-encoder, whose post_processor adds special tokens to pairs.",
            )
        })?;
        let special = processor.added_tokens(true);
        require_templates(&processor)?;
        let pair = process(&processor, &TRIAL[..1], &TRIAL[1..])?;
        let is_once = |id: &u32| pair.get_ids().iter().filter(|other| *other == id).count() == 1;
        if pair.len() != special + TRIAL.len() || !TRIAL.iter().all(is_once) {
            return Err(Error::NotTokenizer("post_processor does not keep both texts of a pair".into()));
        }
        // The query gets half, and at least one token of the text must fit into the rest.
        let least = 2 * (special + 1);
        if max_length < least {
            let hint =
                format!("The value must be at least {least}, since the tokenizer adds {special} tokens to a pair.");
            return Err(Error::argument("\"max_length\" in config", max_length, hint));
        }
        Ok(Self { tokenizer, processor, max_length, special })
    }

    /// The tokens of `query` with each of `texts`, special tokens included, at most `max_length` each; see [`id_and_segment`]. A query of more than
    /// half as many is cut, and then the text.
    pub fn tokenize(
        &self,
        query: &str,
        texts: &[&str],
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Vec<Vec<u32>>> {
        let query = self.ids(query, self.max_length / 2)?;
        let room = self.max_length - self.special - query.len();
        each(texts, threads, progress, |text| {
            let pair = process(&self.processor, &query, &self.ids(text, room)?)?;
            pair.get_ids().iter().zip(pair.get_type_ids()).map(|(&id, &segment)| pair_token(id, segment)).collect()
        })
    }

    /// The first `most` ids of a text, without special tokens.
    fn ids(&self, text: &str, most: usize) -> Result<Vec<u32>> {
        let encoding = self.tokenizer.encode(text, "", most, self.max_length)?;
        let ids = encoding.get_ids();
        Ok(ids[..most.min(ids.len())].to_vec())
    }
}

fn take_processor<M: Model, N: Normalizer>(
    tokenizer: &mut TokenizerImpl<
        M,
        N,
        tokenizers::PreTokenizerWrapper,
        PostProcessorWrapper,
        tokenizers::DecoderWrapper,
    >,
) -> Option<PostProcessorWrapper> {
    let processor = tokenizer.get_post_processor().cloned();
    tokenizer.with_post_processor(None::<PostProcessorWrapper>);
    processor
}

fn process(processor: &PostProcessorWrapper, query: &[u32], text: &[u32]) -> Result<Encoding> {
    // Post-processors look at texts and places only to correct places.
    let encoding =
        |ids: &[u32]| Encoding::from_tokens(ids.iter().map(|&id| Token::new(id, String::new(), (0, 0))).collect(), 0);
    processor.process(encoding(query), Some(encoding(text)), true).map_err(failed)
}

/// The crate panics at a template with a special token that is not listed, and at one that is applied to the result of another.
fn require_templates(processor: &PostProcessorWrapper) -> Result<()> {
    let json = serde_json::to_value(processor).map_err(|e| Error::NotTokenizer(e.to_string()))?;
    let mut templates = Vec::new();
    collect_templates(&json, &mut templates);
    let is_listed = |template: &Value| {
        let names = template["pair"].as_array().into_iter().flatten().map(|piece| &piece["SpecialToken"]["id"]);
        names.filter_map(Value::as_str).all(|name| !template["special_tokens"][name].is_null())
    };
    if templates.len() > 1 || !templates.into_iter().all(is_listed) {
        return Err(Error::NotTokenizer("post_processor has an invalid template for pairs".into()));
    }
    Ok(())
}

fn collect_templates<'a>(processor: &'a Value, templates: &mut Vec<&'a Value>) {
    if processor.get("pair").is_some() {
        templates.push(processor);
    }
    let inner = processor.get("processors").and_then(Value::as_array);
    inner.into_iter().flatten().for_each(|processor| collect_templates(processor, templates));
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokenizers::Tokenizer;
    use tokenizers::utils::truncation::{TruncationDirection, TruncationParams, TruncationStrategy};

    use super::super::fixtures::{Folder, Random, tokenizers, words};
    use super::*;
    use crate::tokenizer::TextTokenizer;
    use runtime::progress::Unwatched;

    fn special(id: &str, type_id: u32) -> Value {
        json!({"SpecialToken": {"id": id, "type_id": type_id}})
    }

    fn text(id: &str, type_id: u32) -> Value {
        json!({"Sequence": {"id": id, "type_id": type_id}})
    }

    fn template(pair: &[Value]) -> Value {
        let token = |name: &str, id: u32| json!({"id": name, "ids": [id], "tokens": [name]});
        json!({"type": "TemplateProcessing", "single": [special("<s>", 0), text("A", 0)], "pair": pair,
            "special_tokens": {"<s>": token("<s>", 4), "</s>": token("</s>", 7)}})
    }

    fn as_bert() -> Value {
        template(&[special("<s>", 0), text("A", 0), special("</s>", 0), text("B", 1), special("</s>", 1)])
    }

    fn processors() -> Vec<(&'static str, Value)> {
        let as_xlm_roberta =
            [special("<s>", 0), text("A", 0), special("</s>", 0), special("</s>", 0), text("B", 0), special("</s>", 0)];
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
        vec![
            ("a template as BERT's", as_bert()),
            ("a template as XLM-RoBERTa's", template(&as_xlm_roberta)),
            ("a template as XLNet's", template(&[text("A", 0), special("</s>", 0), text("B", 1), special("<s>", 2)])),
            ("BERT's", json!({"type": "BertProcessing", "sep": ["</s>", 7], "cls": ["<s>", 4]})),
            (
                "RoBERTa's",
                json!({"type": "RobertaProcessing", "sep": ["</s>", 7], "cls": ["<s>", 4], "trim_offsets": true,
                    "add_prefix_space": false}),
            ),
            ("a sequence", json!({"type": "Sequence", "processors": [bytes, as_bert()]})),
        ]
    }

    fn with(mut tokenizer: Value, processor: Value) -> Value {
        tokenizer["post_processor"] = processor;
        tokenizer
    }

    fn open(json: &Value, max_length: usize) -> Result<PairTokenizer> {
        let folder = Folder::new();
        TextTokenizer::prepare(json.to_string().as_bytes(), &folder.0)?;
        PairTokenizer::open(&folder.0, max_length)
    }

    fn pair(tokenizer: &PairTokenizer, query: &str, text: &str) -> Vec<(u32, u32)> {
        let tokens = tokenizer.tokenize(query, &[text], 1, &Unwatched).unwrap().remove(0);
        tokens.into_iter().map(id_and_segment).collect()
    }

    fn ids_and_segments(encoding: &Encoding) -> Vec<(u32, u32)> {
        encoding.get_ids().iter().copied().zip(encoding.get_type_ids().iter().copied()).collect()
    }

    /// The crate, with its own truncation of the second text.
    struct Crate {
        whole: Tokenizer,
        /// Without post-processor, to cut queries.
        plain: Tokenizer,
        max_length: usize,
    }

    impl Crate {
        fn new(json: &Value, max_length: usize) -> Self {
            let mut plain = Tokenizer::from_bytes(json.to_string()).unwrap();
            let mut whole = plain.clone();
            plain.with_post_processor(None::<PostProcessorWrapper>);
            let (strategy, direction) = (TruncationStrategy::OnlySecond, TruncationDirection::Right);
            let truncation = TruncationParams { max_length, strategy, stride: 0, direction };
            whole.with_truncation(Some(truncation)).unwrap();
            Self { whole, plain, max_length }
        }

        fn pair(&self, query: &str, text: &str) -> Vec<(u32, u32)> {
            let mut cut = self.plain.encode_fast(query, false).unwrap();
            if cut.len() <= self.max_length / 2 {
                return ids_and_segments(&self.whole.encode_fast((query, text), true).unwrap());
            }
            cut.truncate(self.max_length / 2, 0, TruncationDirection::Right);
            let text = self.plain.encode_fast(text, false).unwrap();
            ids_and_segments(&self.whole.post_process(cut, Some(text), true).unwrap())
        }
    }

    #[test]
    fn pairs_are_the_crates_for_thousands_of_random_texts() {
        let (mut cut, mut long_queries) = (0, 0);
        for (name, json) in tokenizers() {
            for (processor, json) in processors().into_iter().map(|(name, of)| (name, with(json.clone(), of))) {
                for max_length in [10, 23, 1000] {
                    let crates = Crate::new(&json, max_length);
                    let ours = open(&json, max_length).unwrap();
                    let mut random = Random(0x9E37_79B9_7F4A_7C15);
                    for _ in 0..60 {
                        let (query, text) = (random.text(), random.text());
                        let found = pair(&ours, &query, &text);
                        assert_eq!(
                            found,
                            crates.pair(&query, &text),
                            "{name}, {processor}, {max_length}: {query:?}, {text:?}"
                        );
                        assert!(found.len() <= max_length);
                        cut += usize::from(found.len() == max_length);
                        long_queries +=
                            usize::from(crates.plain.encode_fast(query, false).unwrap().len() > max_length / 2);
                    }
                }
            }
        }
        assert!(cut > 1000 && long_queries > 1000, "{cut} {long_queries}");
    }

    #[test]
    fn a_pair_is_query_and_text_in_their_segments() {
        let tokenizer = open(&with(words(), as_bert()), 8).unwrap();
        assert_eq!(pair(&tokenizer, "red", "wine red"), [(4, 0), (1, 0), (7, 0), (2, 1), (1, 1), (7, 1)]);
        assert_eq!(pair(&tokenizer, "", ""), [(4, 0), (7, 0), (7, 1)]);
        // The query keeps at most half of the length, whatever the text.
        let query = "red ".repeat(9);
        assert_eq!(pair(&tokenizer, &query, "wine")[5..], [(7, 0), (2, 1), (7, 1)]);
        assert_eq!(pair(&tokenizer, "red", &"wine ".repeat(300_000))[3..], [(2, 1), (2, 1), (2, 1), (2, 1), (7, 1)]);
        let endless = "x".repeat(1_000_000);
        for (query, text) in [("red", endless.as_str()), (endless.as_str(), "red")] {
            assert!(matches!(tokenizer.tokenize(query, &[text], 1, &Unwatched), Err(Error::TooLarge { .. })));
        }
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let tokenizer = open(&with(words(), as_bert()), 100).unwrap();
        let texts: Vec<String> = (0..500).map(|i| "red wine ".repeat(i % 17)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let alone = tokenizer.tokenize("wine", &texts, 1, &Unwatched).unwrap();
        assert_eq!(tokenizer.tokenize("wine", &texts, 3, &Unwatched).unwrap(), alone);
    }

    #[test]
    fn a_tokenizer_without_a_usable_template_for_pairs_is_refused() {
        for processor in [Value::Null, template(&[text("A", 0), text("B", 1)])] {
            let error = open(&with(words(), processor), 100).unwrap_err();
            assert!(matches!(&error, Error::Invalid { hint, .. } if hint.contains("cross-encoder")), "{error}");
        }
        let twice = json!({"type": "Sequence", "processors": [as_bert(), as_bert()]});
        let unusable = [
            template(&[special("<s>", 0), text("A", 0)]),
            template(&[special("<s>", 0), text("A", 0), text("A", 1)]),
            template(&[special("<s>", 0), text("A", 0), text("B", 1), text("B", 1)]),
            template(&[special("<s>", 0), text("A", 0), special("[MISSING]", 0), text("B", 1)]),
            twice,
        ];
        for processor in unusable {
            assert!(matches!(open(&with(words(), processor.clone()), 100), Err(Error::NotTokenizer(_))), "{processor}");
        }
        // Segments that do not fit beside an id, found where the first pair is made.
        let odd = open(&with(words(), template(&[special("<s>", 4), text("A", 0), text("B", 1)])), 100).unwrap();
        assert!(matches!(odd.tokenize("red", &["wine"], 1, &Unwatched), Err(Error::NotTokenizer(_))));
    }

    #[test]
    fn a_length_without_room_for_both_texts_is_refused() {
        let json = with(words(), as_bert());
        assert!(matches!(open(&json, 7), Err(Error::Invalid { .. })));
        let tokenizer = open(&json, 8).unwrap();
        assert_eq!(pair(&tokenizer, "red red red red red", "wine wine").len(), 8);
    }
}
