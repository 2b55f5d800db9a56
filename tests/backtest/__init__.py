"""How good the projection would have been on months that are over."""
