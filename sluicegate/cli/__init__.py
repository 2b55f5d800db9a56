"""The operator's command line, ``sluicegate`` (docs/cli.md); needs the extra ``cli``."""
