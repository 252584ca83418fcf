"""Every SQL example of the documentation runs as it is printed, in order, on the data that it names."""

import re
import sys
from pathlib import Path

import psycopg
import pytest

from environment import from_environment

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "docs" / "demo"))

import demo  # noqa: E402
import load  # noqa: E402

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def examples(page):
    return re.findall(r"^```sql\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def load_tables(db, blocks):
    """The demonstration's tables that the examples name, as docs/demo/demo.sql makes and fills them."""
    named = set(re.findall(r"\bdemo\.\w+", "".join(blocks))) & load.FILES.keys()
    if not named:
        return
    data = Path(from_environment("PG_RECO_DEMO_DATA"))
    db.execute("CREATE SCHEMA demo")
    for kind, statement in demo.parts((ROOT / "docs" / "demo" / "demo.sql").read_text()):
        of = re.match(r"(?:CREATE TABLE|COPY) (\w+\.\w+)", statement)
        if kind == "statement" and of and of[1] in named:
            demo.run(db, statement, data)


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
            load_tables(db, blocks)
            for block in blocks:
                try:
                    db.execute(block)
                except psycopg.Error as error:
                    pytest.fail(f"{page.name}: {error}\n{block}")
    finally:
        with psycopg.connect(server, dbname="postgres", autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
