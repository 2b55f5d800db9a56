"""The simulator: the real state machine, engine and intake in virtual time, against twins of Kafka and ClickHouse.

One seed is one history. Nothing in here does real I/O, starts a thread or reads a clock.
"""
