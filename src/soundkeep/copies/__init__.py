"""What happens to copies: where they belong, how they get there, and how they may leave.

`placement` decides purely where a blob belongs; `planning` writes the difference into the ledger;
`copying` and `dropping` carry out one row each; `marking` makes sure that a store is the one we
mean. The copy law itself is one transaction, `catalog.copy_law.let_go`.
"""
