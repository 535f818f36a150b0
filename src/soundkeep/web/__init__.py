"""HTTP: `app` puts it together, `routes` is the table, `delivery` the hot path."""
