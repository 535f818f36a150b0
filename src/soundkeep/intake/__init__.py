"""Bytes in: `spool` writes them down while it hashes, `examine` finds out what they are, and
`recording` makes them a track in one transaction. `folder` walks a directory tree for `import`.
"""
