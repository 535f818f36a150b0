"""Who speaks: the contract in `interface`, one file for each engine, the table in `kinds`."""
