"""The retail data: Parquet files into COPY."""

import io

import pyarrow.csv
import pyarrow.parquet

# For each table its file, and the file's columns in the order in which demo.sql copies them.
FILES = {
    "demo.product": (
        "products.parquet",
        ["product_id", "department", "product_category", "product_type", "brand", "package_size"],
    ),
    "demo.purchase": (
        "transactions.parquet",
        ["household_id", "product_id", "basket_id", "quantity", "sales_value", "week", "transaction_timestamp"],
    ),
    "demo.household": (
        "demographics.parquet",
        ["household_id", "age", "income", "household_size", "kids_count"],
    ),
    "demo.campaign": (
        "campaign_descriptions.parquet",
        ["campaign_id", "campaign_type", "start_date", "end_date"],
    ),
    "demo.mailing": (
        "campaigns.parquet",
        ["campaign_id", "household_id"],
    ),
    "demo.redemption": (
        "coupon_redemptions.parquet",
        ["household_id", "campaign_id", "coupon_upc", "redemption_date"],
    ),
}
# Rows that are CSV in memory at a time.
BATCH = 100_000
WITHOUT_HEADER = pyarrow.csv.WriteOptions(include_header=False)


def copy(cursor, statement, table, folder):
    """Runs `statement`, a COPY … FROM STDIN as CSV, on the file that belongs to `table`."""
    name, columns = FILES[table]
    file = pyarrow.parquet.ParquetFile(folder / name)
    with cursor.copy(statement) as stream:
        for batch in file.iter_batches(BATCH, columns=columns):
            text = io.BytesIO()
            # Parquet gives its own order; CSV has only the order.
            pyarrow.csv.write_csv(batch.select(columns), text, WITHOUT_HEADER)
            stream.write(text.getbuffer())
