"""The retail data into tables: Parquet → CSV in memory → COPY."""

import io
import os
from pathlib import Path

import psycopg
import pyarrow
import pyarrow.csv
import pyarrow.parquet

# Table → file, and for each column of the table the column of the file.
TABLES = {
    "demo.product": (
        "products.parquet",
        {
            "product_id": "product_id",
            "department": "department",
            "category": "product_category",
            "type": "product_type",
            "brand": "brand",
            "size": "package_size",
        },
    ),
    "demo.purchase": (
        "transactions.parquet",
        {
            "household_id": "household_id",
            "product_id": "product_id",
            "basket_id": "basket_id",
            "quantity": "quantity",
            "sales_value": "sales_value",
            "week": "week",
            "bought_at": "transaction_timestamp",
        },
    ),
    "demo.household": (
        "demographics.parquet",
        {
            "household_id": "household_id",
            "age": "age",
            "income": "income",
            "household_size": "household_size",
            "kids": "kids_count",
        },
    ),
}
# Rows turned into CSV at a time.
BATCH = 200_000


def copy(connection, table, folder):
    """Fills `table` from its file and returns the number of rows."""
    file, columns = TABLES[table]
    rows = pyarrow.parquet.read_table(folder / file, columns=list(columns.values()))
    rows = rows.rename_columns(list(columns)) if False else rows.select(list(columns.values()))
    without_header = pyarrow.csv.WriteOptions(include_header=False)
    with connection.cursor() as cursor:
        with cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT csv)") as stream:
            for batch in rows.to_batches(BATCH):
                buffer = io.BytesIO()
                pyarrow.csv.write_csv(batch, buffer, without_header)
                stream.write(buffer.getbuffer())
    return rows.num_rows
