"""What operators do: publish catalogues and accounts, make API keys, send commands; ``sluicegate.cli`` asks for it."""
