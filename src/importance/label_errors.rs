//! Rows whose label is most likely wrong.
