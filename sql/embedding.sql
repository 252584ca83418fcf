-- Vectors.

CREATE FUNCTION reco.embed(text text, model text DEFAULT NULL, input text DEFAULT 'passage')
    RETURNS real[] LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000000
    AS 'MODULE_PATHNAME', 'embed_wrapper';
COMMENT ON FUNCTION reco.embed(text, text, text) IS 'embedding of a text';

CREATE FUNCTION reco.embed(texts text[], model text DEFAULT NULL, input text DEFAULT 'passage')
    RETURNS TABLE (ordinal bigint, embedding real[])
    LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000000 ROWS 100
    AS 'MODULE_PATHNAME', 'embed_array_wrapper';
COMMENT ON FUNCTION reco.embed(text[], text, text) IS 'embeddings of an array of texts, computed in batches';

CREATE FUNCTION reco.embed_query(source text, model text DEFAULT NULL, input text DEFAULT 'passage')
    RETURNS TABLE (id text, embedding real[])
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000000 ROWS 10000
    AS 'MODULE_PATHNAME', 'embed_query_wrapper';
COMMENT ON FUNCTION reco.embed_query IS 'embeddings of the rows of a query with columns id and text';

CREATE FUNCTION reco.embed_image(image bytea, model text DEFAULT NULL)
    RETURNS real[] LANGUAGE c STABLE PARALLEL RESTRICTED COST 1000000
    AS 'MODULE_PATHNAME', 'embed_image_wrapper';
COMMENT ON FUNCTION reco.embed_image IS 'embedding of a PNG, JPEG or WebP image';

CREATE FUNCTION reco.embed_images(source text, model text DEFAULT NULL)
    RETURNS TABLE (id text, embedding real[])
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 1000000 ROWS 10000
    AS 'MODULE_PATHNAME', 'embed_images_wrapper';
COMMENT ON FUNCTION reco.embed_images IS 'embeddings of the rows of a query with columns id and image';

CREATE FUNCTION reco.rerank(query text, texts text[], model text)
    RETURNS TABLE (rank integer, ordinal bigint, score real)
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED COST 1000000 ROWS 100
    AS 'MODULE_PATHNAME', 'rerank_wrapper';
COMMENT ON FUNCTION reco.rerank IS 'texts ordered by the score that a cross-encoder gives each with a query';

CREATE FUNCTION reco.cosine_similarity(a real[], b real[])
    RETURNS real LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'cosine_similarity_wrapper';
COMMENT ON FUNCTION reco.cosine_similarity(real[], real[]) IS 'cosine similarity of two vectors';

CREATE FUNCTION reco.dot_product(a real[], b real[])
    RETURNS real LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'dot_product_wrapper';
COMMENT ON FUNCTION reco.dot_product(real[], real[]) IS 'inner product of two vectors';

CREATE FUNCTION reco.fuse(a real[], b real[], weights real[] DEFAULT '{1,1}', method text DEFAULT 'concatenate')
    RETURNS real[] LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'fuse_wrapper';
COMMENT ON FUNCTION reco.fuse(real[], real[], real[], text) IS 'combine two normalized, weighted vectors by concatenation or addition';

CREATE FUNCTION reco.fuse(a real[], b real[], c real[], weights real[] DEFAULT '{1,1,1}', method text DEFAULT 'concatenate')
    RETURNS real[] LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'fuse_three_wrapper';
COMMENT ON FUNCTION reco.fuse(real[], real[], real[], real[], text) IS 'combine three normalized, weighted vectors by concatenation or addition';

CREATE FUNCTION reco_internal.mean_embedding_accum(internal, real[])
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'mean_embedding_accum_wrapper';
COMMENT ON FUNCTION reco_internal.mean_embedding_accum(internal, real[]) IS 'aggregate transition function';
CREATE FUNCTION reco_internal.mean_embedding_accum(internal, real[], double precision)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'mean_embedding_accum_weighted_wrapper';
COMMENT ON FUNCTION reco_internal.mean_embedding_accum(internal, real[], double precision) IS 'aggregate transition function';
CREATE FUNCTION reco_internal.mean_embedding_combine(internal, internal)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'mean_embedding_combine_wrapper';
COMMENT ON FUNCTION reco_internal.mean_embedding_combine(internal, internal) IS 'aggregate combine function';
CREATE FUNCTION reco_internal.mean_embedding_serialize(internal)
    RETURNS bytea LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'mean_embedding_serialize_wrapper';
COMMENT ON FUNCTION reco_internal.mean_embedding_serialize(internal) IS 'aggregate serial function';
CREATE FUNCTION reco_internal.mean_embedding_deserialize(bytea, internal)
    RETURNS internal LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'mean_embedding_deserialize_wrapper';
COMMENT ON FUNCTION reco_internal.mean_embedding_deserialize(bytea, internal) IS 'aggregate deserial function';
CREATE FUNCTION reco_internal.mean_embedding_final(internal)
    RETURNS real[] LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'mean_embedding_final_wrapper';
COMMENT ON FUNCTION reco_internal.mean_embedding_final(internal) IS 'aggregate final function';

CREATE AGGREGATE reco.mean_embedding(embedding real[]) (
    SFUNC = reco_internal.mean_embedding_accum, STYPE = internal, FINALFUNC = reco_internal.mean_embedding_final,
    COMBINEFUNC = reco_internal.mean_embedding_combine, SERIALFUNC = reco_internal.mean_embedding_serialize,
    DESERIALFUNC = reco_internal.mean_embedding_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE reco.mean_embedding(real[]) IS 'mean of all non-null vectors';

CREATE AGGREGATE reco.mean_embedding(embedding real[], weight double precision) (
    SFUNC = reco_internal.mean_embedding_accum, STYPE = internal, FINALFUNC = reco_internal.mean_embedding_final,
    COMBINEFUNC = reco_internal.mean_embedding_combine, SERIALFUNC = reco_internal.mean_embedding_serialize,
    DESERIALFUNC = reco_internal.mean_embedding_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE reco.mean_embedding(real[], double precision) IS 'weighted mean of all non-null vectors';

-- Vectors of other numeric types: drivers send float8[], or integer arrays. Calls resolve to real[] if the type matches exactly, and otherwise
-- to this type, the preferred one of its category, to which arrays of numbers are cast implicitly. It is stored as real[].
CREATE TYPE reco.numbers;
CREATE FUNCTION reco_internal.numbers_in(cstring)
    RETURNS reco.numbers LANGUAGE c STABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'numbers_in_wrapper';
CREATE FUNCTION reco_internal.numbers_out(reco.numbers)
    RETURNS cstring LANGUAGE internal STABLE STRICT PARALLEL SAFE AS 'array_out';
CREATE TYPE reco.numbers (
    INPUT = reco_internal.numbers_in, OUTPUT = reco_internal.numbers_out,
    INTERNALLENGTH = VARIABLE, ALIGNMENT = int4, STORAGE = extended, CATEGORY = 'A', PREFERRED = true);
COMMENT ON TYPE reco.numbers IS 'array of numbers of any type, stored as real[]';
COMMENT ON FUNCTION reco_internal.numbers_in IS 'I/O';
COMMENT ON FUNCTION reco_internal.numbers_out IS 'I/O';
CREATE FUNCTION reco_internal.numbers(real[])
    RETURNS reco.numbers LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'numbers_wrapper';
COMMENT ON FUNCTION reco_internal.numbers(real[]) IS 'convert array to reco.numbers';
CREATE CAST (real[] AS reco.numbers) WITH FUNCTION reco_internal.numbers(real[]) AS IMPLICIT;
CREATE FUNCTION reco_internal.numbers(double precision[])
    RETURNS reco.numbers LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'numbers_wrapper';
COMMENT ON FUNCTION reco_internal.numbers(double precision[]) IS 'convert array to reco.numbers';
CREATE CAST (double precision[] AS reco.numbers) WITH FUNCTION reco_internal.numbers(double precision[]) AS IMPLICIT;
CREATE FUNCTION reco_internal.numbers(numeric[])
    RETURNS reco.numbers LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'numbers_wrapper';
COMMENT ON FUNCTION reco_internal.numbers(numeric[]) IS 'convert array to reco.numbers';
CREATE CAST (numeric[] AS reco.numbers) WITH FUNCTION reco_internal.numbers(numeric[]) AS IMPLICIT;
CREATE FUNCTION reco_internal.numbers(smallint[])
    RETURNS reco.numbers LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'numbers_wrapper';
COMMENT ON FUNCTION reco_internal.numbers(smallint[]) IS 'convert array to reco.numbers';
CREATE CAST (smallint[] AS reco.numbers) WITH FUNCTION reco_internal.numbers(smallint[]) AS IMPLICIT;
CREATE FUNCTION reco_internal.numbers(integer[])
    RETURNS reco.numbers LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'numbers_wrapper';
COMMENT ON FUNCTION reco_internal.numbers(integer[]) IS 'convert array to reco.numbers';
CREATE CAST (integer[] AS reco.numbers) WITH FUNCTION reco_internal.numbers(integer[]) AS IMPLICIT;
CREATE FUNCTION reco_internal.numbers(bigint[])
    RETURNS reco.numbers LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'numbers_wrapper';
COMMENT ON FUNCTION reco_internal.numbers(bigint[]) IS 'convert array to reco.numbers';
CREATE CAST (bigint[] AS reco.numbers) WITH FUNCTION reco_internal.numbers(bigint[]) AS IMPLICIT;

CREATE FUNCTION reco.cosine_similarity(a reco.numbers, b reco.numbers)
    RETURNS real LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'cosine_similarity_wrapper';
COMMENT ON FUNCTION reco.cosine_similarity(reco.numbers, reco.numbers) IS 'cosine similarity of two vectors';

CREATE FUNCTION reco.dot_product(a reco.numbers, b reco.numbers)
    RETURNS real LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'dot_product_wrapper';
COMMENT ON FUNCTION reco.dot_product(reco.numbers, reco.numbers) IS 'inner product of two vectors';

CREATE FUNCTION reco.fuse(a reco.numbers, b reco.numbers, weights reco.numbers DEFAULT '{1,1}', method text DEFAULT 'concatenate')
    RETURNS real[] LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'fuse_wrapper';
COMMENT ON FUNCTION reco.fuse(reco.numbers, reco.numbers, reco.numbers, text) IS 'combine two normalized, weighted vectors by concatenation or addition';

CREATE FUNCTION reco.fuse(a reco.numbers, b reco.numbers, c reco.numbers, weights reco.numbers DEFAULT '{1,1,1}', method text DEFAULT 'concatenate')
    RETURNS real[] LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
    AS 'MODULE_PATHNAME', 'fuse_three_wrapper';
COMMENT ON FUNCTION reco.fuse(reco.numbers, reco.numbers, reco.numbers, reco.numbers, text) IS 'combine three normalized, weighted vectors by concatenation or addition';

CREATE FUNCTION reco_internal.mean_embedding_accum(internal, reco.numbers)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'mean_embedding_accum_wrapper';
COMMENT ON FUNCTION reco_internal.mean_embedding_accum(internal, reco.numbers) IS 'aggregate transition function';
CREATE FUNCTION reco_internal.mean_embedding_accum(internal, reco.numbers, double precision)
    RETURNS internal LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'mean_embedding_accum_weighted_wrapper';
COMMENT ON FUNCTION reco_internal.mean_embedding_accum(internal, reco.numbers, double precision) IS 'aggregate transition function';

CREATE AGGREGATE reco.mean_embedding(embedding reco.numbers) (
    SFUNC = reco_internal.mean_embedding_accum, STYPE = internal, FINALFUNC = reco_internal.mean_embedding_final,
    COMBINEFUNC = reco_internal.mean_embedding_combine, SERIALFUNC = reco_internal.mean_embedding_serialize,
    DESERIALFUNC = reco_internal.mean_embedding_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE reco.mean_embedding(reco.numbers) IS 'mean of all non-null vectors';

CREATE AGGREGATE reco.mean_embedding(embedding reco.numbers, weight double precision) (
    SFUNC = reco_internal.mean_embedding_accum, STYPE = internal, FINALFUNC = reco_internal.mean_embedding_final,
    COMBINEFUNC = reco_internal.mean_embedding_combine, SERIALFUNC = reco_internal.mean_embedding_serialize,
    DESERIALFUNC = reco_internal.mean_embedding_deserialize, PARALLEL = SAFE);
COMMENT ON AGGREGATE reco.mean_embedding(reco.numbers, double precision) IS 'weighted mean of all non-null vectors';
