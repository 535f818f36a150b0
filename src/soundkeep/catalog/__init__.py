"""The only room that speaks SQL to the catalog's tables.

`database` runs transactions, `schema` names the tables, `migrating` brings them up to date,
`claims` hands out work, and there is one module for each noun: `tracks`, `blobs`, `copies`,
`stores`, `coverage`. Each of their functions takes a `Tx` first, is short, and never awaits:
a transaction cannot stay open across network or client I/O because it has no way to wait.
"""
