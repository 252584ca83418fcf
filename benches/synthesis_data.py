"""UCI Adult for synthetic rows: as frames, and as a table of the run's database."""

import csv
import functools
import io

import pandas

from data import file_of

LABEL, POSITIVE = "income", ">50K"
NAMES = ["age", "workclass", "fnlwgt", "education", "education_num", "marital_status", "occupation", "relationship"]
NAMES += ["race", "sex", "capital_gain", "capital_loss", "hours_per_week", "native_country", LABEL]
NUMBERS = ["age", "fnlwgt", "education_num", "capital_gain", "capital_loss", "hours_per_week"]
CATEGORIES = [name for name in NAMES if name not in NUMBERS]


@functools.cache
def adult(quick=False):
    """32,561 rows to learn from and 16,281 held out; quick: 3,000 and 2,000. What is unknown is the category `?`, as in the files."""
    frames = []
    for name in ("adult.csv", "adult.test"):
        with file_of("adult", name) as file:
            lines = [[cell.strip() for cell in line] for line in csv.reader(file)]
        rows = pandas.DataFrame([line for line in lines[1:] if len(line) == len(NAMES)], columns=NAMES)
        rows[LABEL] = rows[LABEL].str.rstrip(".")
        frames.append(rows.astype({name: int for name in NUMBERS}))
    real, held_out = frames
    return (real[:3000], held_out[:2000]) if quick else (real, held_out)


def load(connection, table, rows):
    # Whether a private synthesizer makes NULLs is told by the columns, not by the rows.
    definition = ", ".join(f"{name} {'integer' if name in NUMBERS else 'text'} NOT NULL" for name in NAMES)
    connection.execute(f"DROP TABLE IF EXISTS {table}; CREATE TABLE {table} ({definition})")
    with connection.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN (FORMAT csv)") as stream:
        stream.write(rows[NAMES].to_csv(index=False, header=False))
    connection.execute(f"VACUUM ANALYZE {table}")


def rows_of(connection, query, parameters=()):
    """A frame of a query's rows, which come by COPY."""
    text = io.BytesIO()
    with connection.cursor() as cursor, cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT csv, HEADER)", parameters) as stream:
        for part in stream:
            text.write(part)
    text.seek(0)
    return pandas.read_csv(text, keep_default_na=False)[NAMES]


def domain(rows):
    """The options' domain of a private synthesizer: the values that there are, as if they had been known beforehand."""
    return {
        name: {"low": int(rows[name].min()), "high": int(rows[name].max())} if name in NUMBERS else sorted(rows[name].unique())
        for name in NAMES
    }
