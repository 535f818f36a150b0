"""Pages for people, rendered here; none needs a script."""
