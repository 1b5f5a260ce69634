"""Signing in, and where what was granted is kept."""
