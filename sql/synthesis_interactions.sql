-- Synthetic interactions.

CREATE FUNCTION reco.augment_interactions(source text, n bigint, method text DEFAULT 'mult_vae', model text DEFAULT NULL,
                                          options jsonb DEFAULT '{}', seed bigint DEFAULT 0)
    RETURNS TABLE (user_id text, item_id text, weight real)
    LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000000 ROWS 10000
    AS 'MODULE_PATHNAME', 'augment_interactions_wrapper';
COMMENT ON FUNCTION reco.augment_interactions IS 'generate likely interactions for users and items with few of them';
