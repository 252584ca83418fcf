"""How long statements about synthetic rows go on after they were told to stop."""

import json

from cancel import told
from synthesis_own import options_of, own

TITLE = "Synthetic rows: cancelling"
TRAINED = ["cart", "gaussian_copula", "tvae", "ctgan", "aim"]


def measure(context):
    moments = context.size(25, 3)
    extension = own(context)
    connection = extension.connection
    statements = {}
    for method in TRAINED:
        options = json.dumps(options_of(method, extension.real)).replace("'", "''")
        statements[f"`train_synthesizer`, {method}"] = (
            f"SELECT reco.train_synthesizer('cancelled', 'TABLE adult', '{method}', '{options}')"
        )
    for method in ("cart", "ctgan"):
        extension.made(method)
        statements[f"`synthesize`, {method}, 10,000,000 rows"] = (
            f"SELECT count(*) FROM reco.synthesize(NULL::adult, '{method}', 10000000)"
        )
    statements["`augment`, smote_nc, 1,000,000 rows"] = (
        "SELECT count(*) FROM reco.augment(NULL::adult, 'TABLE adult', 'smote_nc', n => 1000000, label => 'income')"
    )
    statements["`synthetic_report`"] = "SELECT reco.synthetic_report('TABLE adult', 'TABLE adult', label => 'income')"
    statements["`alignment_weights`"] = "SELECT count(*) FROM reco.alignment_weights('TABLE adult', 'TABLE adult')"
    return told(context, connection, statements, moments)
