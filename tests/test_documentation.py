"""The documentation is true: its SQL runs as printed, its links lead somewhere, its reference has all that the catalog has."""

import re
import sys
from pathlib import Path

import psycopg
import pytest

from environment import from_environment

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
sys.path += [str(DOCS), str(DOCS / "demo")]

import demo  # noqa: E402
import load  # noqa: E402
import fill_reference  # noqa: E402

PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
OTHERS = ["CONTRIBUTING.md", "CHANGELOG.md", "models/README.md", "pgrx-config/README.md", "benches/README.md", "benches/RESULTS.md"]
LINKED = [*PAGES, *(ROOT / name for name in OTHERS)]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def title(page):
    return str(page.relative_to(ROOT))


def examples(page):
    return [block for language, block in FENCED.findall(page.read_text()) if language == "sql"]


def load_tables(db, blocks):
    """The demonstration's tables that the examples name, as docs/demo/demo.sql makes and fills them."""
    named = set(re.findall(r"\bdemo\.\w+", "".join(blocks))) & load.FILES.keys()
    if not named:
        return
    data = Path(from_environment("PG_RECO_DEMO_DATA"))
    db.execute("CREATE SCHEMA demo")
    for kind, statement in demo.parts((DOCS / "demo" / "demo.sql").read_text()):
        of = re.match(r"(?:CREATE TABLE|COPY) (\w+\.\w+)", statement)
        if kind == "statement" and of and of[1] in named:
            demo.run(db, statement, data)


@pytest.mark.parametrize("page", [page for page in PAGES if examples(page)], ids=title)
def test_every_example_runs(server, page):
    blocks = examples(page)
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
                    pytest.fail(f"{title(page)}: {error}\n{block}")
    finally:
        with psycopg.connect(server, dbname="postgres", autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_the_examples_of_readme_and_tour_are_there():
    assert len(examples(ROOT / "README.md")) >= 3
    assert len(examples(DOCS / "tour.md")) >= 20


# ------------------------------------------------------------------------------------------------------------------ links


def anchors(page):
    """The headings of a page as links name them, on the site and in a forge alike."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def links(page):
    text = re.sub(r"`[^`\n]*`", "", FENCED.sub("", page.read_text()))
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not link.startswith(("http:", "https:"))]


@pytest.mark.parametrize("page", LINKED, ids=title)
def test_every_link_leads_somewhere(page):
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} is not there"
        assert target.is_relative_to(ROOT), f"{link} leaves the repository"
        if anchor:
            assert anchor in anchors(target), f"{link}: no such heading"


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=title)
def test_every_page_is_in_the_contents(page):
    path = str(page.relative_to(DOCS))
    assert f": {path}\n" in (ROOT / "mkdocs.yml").read_text()
    assert page == DOCS / "README.md" or path in links(DOCS / "README.md")


# -------------------------------------------------------------------------------------------------------------- reference


def section(heading):
    """The part of the reference below a heading, up to the next one of its level."""
    for page in sorted(REFERENCE.glob("*.md")):
        found = re.search(rf"^(#+) {re.escape(heading)}\n(.*?)(?=^#{{1,2}} |\Z)", page.read_text(), re.MULTILINE | re.DOTALL)
        if found:
            return found[2]
    return pytest.fail(f"the reference has no heading: {heading}")


def reference():
    return "".join(page.read_text() for page in sorted(REFERENCE.glob("*.md")))


def cells(text):
    """The rows of all tables of a text, without their backticks."""
    lines = (line.strip().strip("|").replace("`", "") for line in text.splitlines() if line.startswith("| "))
    return [[cell.strip() for cell in line.split(" | ")] for line in lines]


def of_extension(catalog):
    """Joins that keep the objects `c` of a catalog that belong to the extension."""
    return f"""JOIN pg_depend AS d ON d.classid = '{catalog}'::regclass AND d.objid = c.oid AND d.deptype = 'e'
               JOIN pg_extension AS e ON d.refobjid = e.oid AND e.extname = 'pg_reco'"""


def test_every_function_is_in_the_reference(db):
    known = fill_reference.catalog(db)
    assert "train" in known and "top_k" in known and "revoke_from_public" in known
    pages = {path: path.read_text() for path in sorted(REFERENCE.glob("*.md"))}
    shown = [name for page in pages.values() for name in fill_reference.names(page)]
    assert sorted(shown) == sorted(known)
    for name in shown:
        assert section(f"`{name}`").strip(), name


def test_signatures_are_those_of_the_catalog(db):
    for path, page in fill_reference.up_to_date(fill_reference.catalog(db)).items():
        assert path.read_text() == page, f"{title(path)} is not up to date: see docs/fill_reference.py"


def test_every_view_is_in_the_reference_with_its_columns(rows):
    columns = rows(
        f"""SELECT c.relname, a.attname, format_type(a.atttypid, NULL)
              FROM pg_class AS c {of_extension("pg_class")}
              JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
             WHERE c.relkind = 'v' AND c.relnamespace = 'reco'::regnamespace"""
    )
    assert {view for view, _, _ in columns} >= {"models", "cache", "stat_models", "stat_progress"}
    for view, column, kind in columns:
        shown = {
            name.strip(): types
            for row in cells(section(f"View `reco.{view}`"))
            for name in row[0].split(",")
            for types in [row[1]]
        }
        assert column in shown, f"reco.{view}.{column}"
        assert fill_reference.shown_type(kind) in shown[column].split(", "), f"reco.{view}.{column}"


def test_every_table_and_type_is_in_the_reference(rows):
    text = reference()
    names = rows(
        f"""SELECT c.relname FROM pg_class AS c {of_extension("pg_class")}
             WHERE c.relkind = 'r' AND c.relnamespace = 'reco'::regnamespace
             UNION
            SELECT c.typname FROM pg_type AS c {of_extension("pg_type")}
             WHERE c.typnamespace = 'reco'::regnamespace AND c.typelem = 0 AND c.typname !~ '^_'
               AND (c.typrelid = 0 OR (SELECT relkind FROM pg_class WHERE pg_class.oid = c.typrelid) = 'c')"""
    )
    assert {name for (name,) in names} >= {"model", "scored_item", "loss_summary", "role", "numbers"}
    for (name,) in names:
        assert f"`reco.{name}`" in text, name
    for name, column in rows(
        f"""SELECT c.relname, a.attname FROM pg_class AS c {of_extension("pg_class")}
              JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
             WHERE c.relkind = 'c' AND c.relnamespace = 'reco'::regnamespace"""
    ):
        assert re.search(rf"`reco\.{name}`[^.]*?`{column}\b", text), f"reco.{name}.{column}"


def in_words(value, unit):
    """A setting's default as the reference prints it: 4194304 kB is 4 GB."""
    units = ["kB", "MB", "GB"]
    if unit not in units or value == "0":
        return value or "empty"
    size, place = int(value), units.index(unit)
    while size % 1024 == 0 and place < 2:
        size, place = size // 1024, place + 1
    return f"{size} {units[place]}"


def test_every_setting_is_in_the_reference_with_its_default(db, rows):
    # The library defines them, and a connection that has not used it has not loaded it.
    db.execute("SELECT reco.dot_product('{1}', '{1}')")
    known = rows("SELECT name, boot_val, unit, context FROM pg_settings WHERE name LIKE 'reco.%' ORDER BY name")
    shown = {row[0]: row[1:3] for row in cells((REFERENCE / "settings.md").read_text()) if row[0].startswith("reco.")}
    assert shown.keys() == {name for name, *_ in known}
    for name, default, unit, context in known:
        assert shown[name] == [in_words(default, unit), {"user": "anyone", "superuser": "superuser", "postmaster": "server start"}[context]], name


def test_every_role_is_in_the_reference(rows):
    known = {name for (name,) in rows("SELECT rolname FROM pg_roles WHERE rolname LIKE 'reco\\_%' AND NOT rolcanlogin")}
    assert known >= {"reco_trainer", "reco_importer", "reco_reader", "reco_dumper"}
    assert {row[0] for row in cells(section("Roles"))} == known | {"role"}


# For each function and method: a call whose options are OPTIONS, the page that describes them, and the heading where it is not the
# whole page. A call with an unknown option has a hint that lists the known ones.
RECOMMENDERS = "popularity item_knn ease gf_cf ials bpr lightgcn neumf mult_vae two_tower hybrid".split()
SYNTHESIZERS = "cart gaussian_copula tvae ctgan aim bootstrap independent".split()
SCORES = "auto loss aum tracin self_confidence influence knn_shapley data_oob".split()
CALLS = {
    **{
        name: (f"reco.train('options', 'TABLE pair', '{name}', OPTIONS, items => 'TABLE item')", "recommenders.md", name)
        for name in RECOMMENDERS
    },
    **{
        f"train_synthesizer {name}": (
            f"reco.train_synthesizer('options', 'TABLE line', '{name}', OPTIONS)",
            "reference/synthesis.md",
            "train_synthesizer",
        )
        for name in SYNTHESIZERS
    },
    **{
        f"augment {name}": (f"reco.augment('TABLE line', '{name}', 1, options => OPTIONS)", "reference/synthesis.md", "augment")
        for name in ("smote_nc", "mixup", "jitter", "bootstrap")
    },
    "augment_text": ("reco.augment_text('tea', options => OPTIONS)", "reference/synthesis.md", "augment_text"),
    **{
        f"augment_interactions {name}": (
            f"reco.augment_interactions('TABLE pair', 1, '{name}', options => OPTIONS)",
            "reference/synthesis.md",
            "augment_interactions",
        )
        for name in ("mult_vae", "neighbors")
    },
    **{
        name: (f"reco.{name}('TABLE line', 'TABLE line', options => OPTIONS)", "reference/synthesis.md", name)
        for name in ("alignment_weights", "synthetic_report")
    },
    **{
        f"importance {name}": (
            f"reco.importance('TABLE line', '{name}', validation => 'TABLE line', options => OPTIONS)",
            "importance.md",
            None,
        )
        for name in SCORES
    },
    "find_label_errors": ("reco.find_label_errors('TABLE line', options => OPTIONS)", "importance.md", None),
    "interaction_importance": ("reco.interaction_importance(source => 'TABLE pair', options => OPTIONS)", "importance.md", None),
    "compare_training": (
        "reco.compare_training('TABLE line', 'SELECT id, 1 AS weight FROM line', options => OPTIONS)",
        "importance.md",
        None,
    ),
}


@pytest.mark.parametrize("call, page, heading", CALLS.values(), ids=CALLS)
def test_every_option_is_described(db, call, page, heading):
    db.execute(
        """CREATE TEMP TABLE pair AS
           SELECT u AS user_id, i AS item_id FROM generate_series(1, 9) AS u, generate_series(1, 9) AS i WHERE u * i % 7 < 3;
           CREATE TEMP TABLE item AS SELECT i AS item_id, i % 3 AS kind FROM generate_series(1, 9) AS i;
           CREATE TEMP TABLE line AS SELECT id, id % 7 AS a, (id % 3)::text AS label FROM generate_series(1, 60) AS id"""
    )
    given = """'{"epsilon": 1, "unknown": 1}'""" if "'aim'" in call else """'{"unknown": 1}'"""
    with pytest.raises(psycopg.errors.InvalidParameterValue, match='unknown option "unknown"') as raised:
        db.execute(f"SELECT {call.replace('OPTIONS', given)}")
    known = raised.value.diag.message_hint.removeprefix("Known options: ").rstrip(".").split(", ")
    text = (DOCS / page).read_text()
    if heading:
        text = re.search(rf"^## `{heading}`\n.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)[0]
    if page == "reference/synthesis.md":
        # Those of the columns are described once.
        text += (DOCS / "synthesis.md").read_text().partition("## Columns")[2].partition("## Conditions")[0]
    assert [name for name in known if f"`{name}`" not in text] == []
