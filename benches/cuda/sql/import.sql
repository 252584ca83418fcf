-- The extension, and the models of the folder :models, each with drawn weights. They are tried out by :provider.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_reco;
SET reco.execution_provider = :'provider';

SELECT reco.import_model(name => manifest->>'name',
                         onnx => pg_read_binary_file(folder || '/model.onnx'),
                         task => manifest->>'task',
                         tokenizer => pg_read_binary_file(folder || '/tokenizer.json', 0, 1 << 28, true),
                         config => manifest->'config')
  FROM (SELECT folder, pg_read_file(folder || '/manifest.json')::jsonb AS manifest
          FROM (SELECT :'models' || '/' || pg_ls_dir(:'models') AS folder) AS folders) AS read \g /dev/null
