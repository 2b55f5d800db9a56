"""Hostile input: every decoder and HTTP surface against mutated records, from a corpus that grows with what broke."""
