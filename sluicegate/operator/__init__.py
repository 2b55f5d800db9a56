"""What operators do and see: publish catalogues and accounts, make API keys, send commands, explain decisions.

The command line and the operator API ask for it.
"""
