"""``sluicegate doctor``: what is wrong with a running system, and the remedy; it only looks."""
