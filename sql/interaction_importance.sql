-- Which interactions of a recommender's source matter.

CREATE FUNCTION reco.interaction_importance(model text DEFAULT NULL, method text DEFAULT 'auto', validation text DEFAULT NULL,
                                            source text DEFAULT NULL, options jsonb DEFAULT '{}')
    RETURNS TABLE (user_id text, item_id text, score double precision)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 10000000 ROWS 100000
    AS 'MODULE_PATHNAME', 'interaction_importance_wrapper';
COMMENT ON FUNCTION reco.interaction_importance IS 'a score for each pair of a user and an item that a model is trained on, or that a query gives: higher is more valuable';
