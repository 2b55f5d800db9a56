"""The routes, a file for each question."""
