"""Text becomes sound: said once, paid once. `engines/` is who speaks."""
