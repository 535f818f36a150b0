"""Where bytes are kept: the contract in `interface`, one file for each kind, the list in `kinds`.

A store knows nothing of tracks, placement or the catalog. What it should not know of itself
(time limits, retries, who watches) goes around it: see `wrappers`.
"""
