"""Search and recommendation on a retailer's data, from loading to a dashboard: runs demo.sql and shows what happens.

    demo.py          with PG_RECO_DSN (a database with pg_reco and its models) and PG_RECO_DEMO_DATA (a folder with the
                     Parquet files of Complete Journey) in the environment, as `make demo` sets them
    demo.py --drop   takes away what the demonstration made

Comments of demo.sql are the words, its statements are run one by one, printed as they stand, with their rows and times.
"""

import os
import re
import sys
import time
from pathlib import Path

import psycopg

import load
from table import table

HERE = Path(__file__).parent
DROP = """
    DROP SCHEMA IF EXISTS demo CASCADE;
    SELECT reco.drop_model(name) FROM reco.models WHERE name IN ('demo_ials', 'demo_popularity', 'demo_search') AND in_use;
"""


def parts(script):
    """Yields (kind, text): a `title`, some `words`, a `statement`."""
    words, statement = [], []
    for line in script.splitlines():
        if not statement and line.startswith("--"):
            words.append(line[2:].strip())
        elif line.strip() or statement:
            statement.append(line)
        if statement and line.endswith(";"):
            yield from comments(words)
            yield "statement", "\n".join(statement).rstrip(";")
            words, statement = [], []
    if words or statement:
        raise ValueError(f"demo.sql ends in the middle of a statement: {words + statement}")


def comments(lines):
    """A comment that begins with # is a title; blank ones part paragraphs."""
    paragraph = []
    for line in [*lines, ""]:
        if line.startswith("# "):
            yield "title", line[2:]
        elif line:
            paragraph.append(line)
        elif paragraph:
            yield "words", "\n".join(paragraph)
            paragraph = []


def run(connection, statement, data):
    """Runs one statement. Returns its cursor and the seconds it took."""
    cursor = connection.cursor()
    copied = re.match(r"COPY (\S+)", statement)
    start = time.perf_counter()
    if copied:
        load.copy(cursor, statement, copied[1], data)
    else:
        cursor.execute(statement)
    return cursor, time.perf_counter() - start


def outcome(cursor, seconds):
    """The rows that a statement gave, and below them how many it gave, read or wrote and how long it took."""
    rows = cursor.fetchall() if cursor.description else []
    # A function that returns nothing gives an empty text.
    shown = any(value != "" for row in rows for value in row)
    said = f"{seconds:.2f} s"
    if shown or not rows and cursor.rowcount > 0:
        said = f"{cursor.rowcount:,} row{'s' * (cursor.rowcount != 1)}, {said}"
    if cursor.rowcount >= 10_000:
        said += f", {cursor.rowcount / seconds:,.0f} a second"
    return f"{table([c.name for c in cursor.description], rows)}\n({said})" if shown else f"({said})"


def indented(text):
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines())


def show(connection, data):
    """The whole demonstration. Returns the time of each chapter: [[title, seconds], …]."""
    chapters = []
    for kind, text in parts((HERE / "demo.sql").read_text()):
        if kind == "title":
            chapters.append([f"{len(chapters) + 1}. {text}", 0.0])
            print(f"\n{'=' * 100}\n{chapters[-1][0]}\n{'=' * 100}\n")
        elif kind == "words":
            print(f"{text}\n")
        else:
            print(f"{indented(text)};\n", flush=True)
            cursor, seconds = run(connection, text, data)
            print(f"{outcome(cursor, seconds)}\n", flush=True)
            chapters[-1][1] += seconds
    return chapters


def main(arguments):
    dsn, data = os.environ.get("PG_RECO_DSN"), Path(os.environ.get("PG_RECO_DEMO_DATA", ""))
    if arguments not in ([], ["--drop"]):
        sys.exit("pg_reco: the demonstration takes no argument but --drop; run: make demo")
    if not dsn or not (data / "products.parquet").exists():
        sys.exit("pg_reco: PG_RECO_DSN and PG_RECO_DEMO_DATA name no database and no data; run: make demo")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET client_min_messages = warning")
        if arguments:
            connection.execute(DROP)
            return
        connection.execute("RESET client_min_messages")
        connection.add_notice_handler(lambda notice: print(f"notice: {notice.message_primary}\n"))
        chapters = show(connection, data)
    print(f"{'=' * 100}\n")
    print(table(["chapter", "seconds"], [*chapters, ["all", sum(seconds for _, seconds in chapters)]]))
    print("\nAll of it is still there: `make psql` opens the database, the tables are in the schema demo.")
    print("The statements are in docs/demo/demo.sql. `make demo ARGS=--drop` takes all of it away.")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except psycopg.Error as error:
        sys.exit(f"pg_reco: the demonstration stops here; the server says: {str(error).strip()}")
    except KeyboardInterrupt:
        sys.exit("pg_reco: interrupted")
