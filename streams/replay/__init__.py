"""Past traffic through the metering state machine under another catalogue (requirements, section 7)."""
