"""The metering state machine of one partition, pure: rows and inputs in log order in, changed rows and outputs out.

``partition.Partition`` is the machine; the other files are its steps, in the order in which an event meets them: admit,
dedup, rate, meter, ledger, limits, policy, outputs.
"""
