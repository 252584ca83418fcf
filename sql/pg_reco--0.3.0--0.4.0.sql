-- 0.3.0 → 0.4.0: safe in hostile hands. A test holds the result against a fresh install.

-- Versions that are kept, and the cache of models' files.

DROP FUNCTION reco.train(text, text, text, jsonb, bigint, text, text, jsonb, interval, text);
CREATE FUNCTION reco.train(name text, source text, algorithm text DEFAULT 'ials', options jsonb DEFAULT '{}', seed bigint DEFAULT 0,
        items text DEFAULT NULL, users text DEFAULT NULL, event_weights jsonb DEFAULT NULL, half_life interval DEFAULT NULL,
        promote text DEFAULT 'always', keep integer DEFAULT NULL)
    RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000
    AS 'MODULE_PATHNAME', 'train_wrapper';
COMMENT ON FUNCTION reco.train IS 'trains a recommender on a query with columns user_id, item_id and perhaps weight, ts and event, and gives its version';

DROP FUNCTION reco.refresh(text, text);
CREATE FUNCTION reco.refresh(model text, promote text DEFAULT 'always', keep integer DEFAULT NULL)
    RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000
    AS 'MODULE_PATHNAME', 'refresh_wrapper';
COMMENT ON FUNCTION reco.refresh IS 'a new version of a recommender, with what its queries hold by now';

DROP FUNCTION reco.train_synthesizer(text, text, text, jsonb, text, bigint);
CREATE FUNCTION reco.train_synthesizer(name text, source text, method text DEFAULT 'cart', options jsonb DEFAULT '{}', label text DEFAULT NULL,
                                       seed bigint DEFAULT NULL, keep integer DEFAULT NULL)
    RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000
    AS 'MODULE_PATHNAME', 'train_synthesizer_wrapper';
COMMENT ON FUNCTION reco.train_synthesizer IS 'learns what the rows of a query are like, and keeps it as a version of a model that makes more of them';

CREATE FUNCTION reco.prune_versions(name text, keep integer)
    RETURNS SETOF integer LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 10
    AS 'MODULE_PATHNAME', 'prune_versions_wrapper';
COMMENT ON FUNCTION reco.prune_versions IS 'removes all versions of a model but the newest and the one in use, and gives those that went';

CREATE FUNCTION reco.cache_folders()
    RETURNS TABLE (folder text, bytes bigint, model text, version integer, databases oid[], prepared_here boolean, prepared_elsewhere integer)
    LANGUAGE c VOLATILE PARALLEL RESTRICTED COST 10000 ROWS 10
    AS 'MODULE_PATHNAME', 'cache_folders_wrapper';
-- The cache is that of all databases: what another has is not for everybody's eyes.
REVOKE ALL ON FUNCTION reco.cache_folders FROM PUBLIC;
GRANT EXECUTE ON FUNCTION reco.cache_folders TO pg_read_all_stats;
COMMENT ON FUNCTION reco.cache_folders IS 'the rows of the view reco.cache';

CREATE VIEW reco.cache AS
SELECT c.folder,
       c.bytes,
       c.model,
       c.version,
       ARRAY(SELECT d.datname FROM pg_catalog.pg_database d WHERE d.oid = ANY (c.databases) ORDER BY d.datname) AS databases,
       c.prepared_here,
       c.prepared_elsewhere
  FROM reco.cache_folders() c;
COMMENT ON VIEW reco.cache IS 'the folders of models'' files in the data directory: the version of this database in each, and the databases that need it';
COMMENT ON COLUMN reco.cache.folder IS 'its name below pg_reco in the data directory';
COMMENT ON COLUMN reco.cache.bytes IS 'of all files in it';
COMMENT ON COLUMN reco.cache.model IS 'a model of this database whose files these are; NULL where there is none';
COMMENT ON COLUMN reco.cache.version IS 'its version';
COMMENT ON COLUMN reco.cache.databases IS 'that need the folder';
COMMENT ON COLUMN reco.cache.prepared_here IS 'whether the graph is prepared for the ONNX Runtime and the processor of this connection';
COMMENT ON COLUMN reco.cache.prepared_elsewhere IS 'how often the graph is prepared for others';
GRANT SELECT ON reco.cache TO pg_read_all_stats;

CREATE FUNCTION reco.sweep_cache()
    RETURNS TABLE (folder text, bytes bigint, why text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000 ROWS 10
    AS 'MODULE_PATHNAME', 'sweep_cache_wrapper';
REVOKE ALL ON FUNCTION reco.sweep_cache FROM PUBLIC;
COMMENT ON FUNCTION reco.sweep_cache IS 'removes what no database needs from the cache of models'' files, and says what that was';
