"""The operator's commands: publish a catalogue and accounts, make API keys (``python -m sluicegate.operator``)."""
