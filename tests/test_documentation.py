"""Every SQL example of the documentation runs as it is printed, in order, on the data that it names."""

import re
from pathlib import Path

import psycopg
import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def examples(page):
    return re.findall(r"^```sql\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_example_runs(server, page):
    blocks = examples(page)
    if page.name == "README.md":
        assert len(blocks) >= 5
    name = "pg_reco_documentation"
    with psycopg.connect(server, dbname="postgres", autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {name} TEMPLATE pg_reco_template")
    try:
        with psycopg.connect(server, dbname=name, autocommit=True) as db:
            for block in blocks:
                try:
                    db.execute(block)
                except psycopg.Error as error:
                    pytest.fail(f"{page.name}: {error}\n{block}")
    finally:
        with psycopg.connect(server, dbname="postgres", autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
