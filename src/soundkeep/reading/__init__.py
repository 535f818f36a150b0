"""Bytes out: every byte verified before it is sent, from whichever copy is good.

`reader` reads any blob, and `stream` goes from copy to copy while it does; a `feed` is what one
copy gives; `order` decides which comes first. `body` is what an answer sends: `trusted` files of
this machine first. `chunk_cache` remembers chunks of stores that are not files; `lookup` keeps
catalog answers for a second.
"""
