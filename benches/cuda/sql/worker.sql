-- The process of the device's worker.
SELECT pid FROM reco.stat_workers WHERE provider = :'device' AND pid IS NOT NULL ORDER BY requests DESC LIMIT 1;
