-- Vectors.

CREATE FUNCTION reco.embed(text text, model text DEFAULT NULL, input text DEFAULT 'passage')
    RETURNS real[] LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000000
    AS 'MODULE_PATHNAME', 'embed_wrapper';
COMMENT ON FUNCTION reco.embed(text, text, text) IS 'the vector of a text; NULL for NULL';

CREATE FUNCTION reco.embed(texts text[], model text DEFAULT NULL, input text DEFAULT 'passage')
    RETURNS TABLE (ordinal bigint, embedding real[])
    LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000000 ROWS 100
    AS 'MODULE_PATHNAME', 'embed_array_wrapper';
COMMENT ON FUNCTION reco.embed(text[], text, text) IS 'the vectors of many texts, run together';

CREATE FUNCTION reco.embed_query(source text, model text DEFAULT NULL, input text DEFAULT 'passage')
    RETURNS TABLE (id text, embedding real[])
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000000 ROWS 10000
    AS 'MODULE_PATHNAME', 'embed_query_wrapper';
COMMENT ON FUNCTION reco.embed_query IS 'the vectors of a query''s rows; the query has columns id and text';

CREATE FUNCTION reco.embed_image(image bytea, model text DEFAULT NULL)
    RETURNS real[] LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000000
    AS 'MODULE_PATHNAME', 'embed_image_wrapper';
COMMENT ON FUNCTION reco.embed_image IS 'the vector of a PNG, JPEG or WebP image; NULL for NULL';

CREATE FUNCTION reco.cosine_similarity(a real[], b real[])
    RETURNS real LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'cosine_similarity_wrapper';
COMMENT ON FUNCTION reco.cosine_similarity IS 'cosine of the angle between two vectors, −1 to 1';

CREATE FUNCTION reco.dot_product(a real[], b real[])
    RETURNS real LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'dot_product_wrapper';
COMMENT ON FUNCTION reco.dot_product IS 'inner product of two vectors';

CREATE FUNCTION reco.fuse(a real[], b real[], weights real[] DEFAULT '{1,1}', method text DEFAULT 'concatenate')
    RETURNS real[] LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'fuse_wrapper';
COMMENT ON FUNCTION reco.fuse(real[], real[], real[], text) IS 'one vector for two modalities: each normalised and weighed, then concatenated or added';

CREATE FUNCTION reco.fuse(a real[], b real[], c real[], weights real[] DEFAULT '{1,1,1}', method text DEFAULT 'concatenate')
    RETURNS real[] LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'fuse_three_wrapper';
COMMENT ON FUNCTION reco.fuse(real[], real[], real[], real[], text) IS 'one vector for three modalities: each normalised and weighed, then concatenated or added';

CREATE FUNCTION reco.mean_embedding_accum(internal, real[])
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'mean_embedding_accum_wrapper';
CREATE FUNCTION reco.mean_embedding_accum(internal, real[], double precision)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'mean_embedding_accum_weighted_wrapper';
CREATE FUNCTION reco.mean_embedding_combine(internal, internal)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'mean_embedding_combine_wrapper';
CREATE FUNCTION reco.mean_embedding_serialize(internal)
    RETURNS bytea LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'mean_embedding_serialize_wrapper';
CREATE FUNCTION reco.mean_embedding_deserialize(bytea, internal)
    RETURNS internal LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'mean_embedding_deserialize_wrapper';
CREATE FUNCTION reco.mean_embedding_final(internal)
    RETURNS real[] LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'mean_embedding_final_wrapper';

CREATE AGGREGATE reco.mean_embedding(embedding real[]) (
    SFUNC = reco.mean_embedding_accum, STYPE = internal, FINALFUNC = reco.mean_embedding_final,
    COMBINEFUNC = reco.mean_embedding_combine, SERIALFUNC = reco.mean_embedding_serialize,
    DESERIALFUNC = reco.mean_embedding_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE reco.mean_embedding(real[]) IS 'the mean of vectors; rows with NULL are left out';

CREATE AGGREGATE reco.mean_embedding(embedding real[], weight double precision) (
    SFUNC = reco.mean_embedding_accum, STYPE = internal, FINALFUNC = reco.mean_embedding_final,
    COMBINEFUNC = reco.mean_embedding_combine, SERIALFUNC = reco.mean_embedding_serialize,
    DESERIALFUNC = reco.mean_embedding_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE reco.mean_embedding(real[], double precision) IS 'the weighted mean of vectors; rows with NULL are left out';
