-- Variants of texts.

CREATE FUNCTION reco.augment_text(original text, n integer DEFAULT 1, method text DEFAULT 'mixed', options jsonb DEFAULT '{}',
                                  seed bigint DEFAULT 0)
    RETURNS TABLE (ordinal integer, text text, similarity real)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000000 ROWS 10
    AS 'MODULE_PATHNAME', 'augment_text_wrapper';
COMMENT ON FUNCTION reco.augment_text(text, integer, text, jsonb, bigint) IS 'generate variants of a short text';

CREATE FUNCTION reco.augment_text(texts text[], n integer DEFAULT 1, method text DEFAULT 'mixed', options jsonb DEFAULT '{}',
                                  seed bigint DEFAULT 0)
    RETURNS TABLE (ordinal integer, text text, similarity real)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000 ROWS 1000
    AS 'MODULE_PATHNAME', 'augment_texts_wrapper';
COMMENT ON FUNCTION reco.augment_text(text[], integer, text, jsonb, bigint) IS 'generate variants of short texts';
