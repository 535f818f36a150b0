"""Bytes out: every byte verified before it is sent, from whichever copy is good.

`reader` goes from copy to copy in mid-stream; `order` decides which comes first; `trusted` reads
local files; `chunk_cache` remembers chunks of stores that are not; `lookup` keeps catalog answers
for a second.
"""
