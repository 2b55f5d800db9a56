"""The usage API: what a customer sees of its own usage, limits and alerts (requirements, section 4)."""
