-- What the workers hold, and how they fared.
SELECT format('| worker of %s | %s graphs of %s MiB; %s runs of %s rows on average, %s requests failed, %s were withdrawn, %s restarts |',
              upper(provider), models, round(bytes / 1048576.0), runs, round(mean_batch::numeric, 1), failed, withdrawn, restarts)
  FROM reco.stat_workers
 WHERE pid IS NOT NULL AND runs > 0
 ORDER BY worker;
