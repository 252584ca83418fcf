"""Imports the built models into a database and lets everyone use them.

    import_models.py MODELS

connects to the database that the environment variable PG_RECO_DSN names and imports every model whose file there is not
already the version in use.
"""

import json
import os
import sys
from pathlib import Path

import psycopg

import manifest


def version_in_use(connection, name):
    """The SHA-256 of the ONNX file that the database answers with, or None."""
    row = connection.execute("SELECT sha256 FROM reco.models WHERE name = %s AND in_use", [name]).fetchone()
    return row and row[0]


def import_model(connection, entry, files):
    """Stores one model; binary parameters keep the files out of SQL text."""
    tokenizer = files / "tokenizer.json"
    connection.execute(
        """
        SELECT reco.import_model(
            name => %s, onnx => %b, task => %s, tokenizer => %b, config => %s::jsonb)
        """,
        [
            entry["name"],
            (files / "model.onnx").read_bytes(),
            entry["task"],
            tokenizer.read_bytes() if "tokenizer.json" in entry["sha256"] else None,
            json.dumps(entry["config"]),
        ],
    )
    connection.execute("SELECT reco.grant_model(%s, 'public')", [entry["name"]])


def main(models):
    """Imports what is missing, each model in a transaction of its own."""
    dsn = os.environ.get("PG_RECO_DSN")
    if not dsn:
        sys.exit("pg_reco: PG_RECO_DSN names no database; run: make models")
    with psycopg.connect(dsn, autocommit=True) as connection:
        for entry in manifest.read_all():
            if version_in_use(connection, entry["name"]) == entry["sha256"]["model.onnx"]:
                continue
            with connection.transaction():
                import_model(connection, entry, models / entry["name"])
            print(f"pg_reco: imported {entry['name']} into {connection.info.dbname}")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except psycopg.Error as error:
        sys.exit(f"pg_reco: the models could not be imported; the server says: {str(error).strip()}")
