"""Real servers for tests, on loopback or a socket, started by fixtures and ended by their pid."""
