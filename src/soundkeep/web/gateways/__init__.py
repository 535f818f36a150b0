"""Doors for clients of other services: their own SDKs work with only the base URL changed."""
