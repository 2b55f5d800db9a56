"""What must hold, during a history and after it. A module is one idea; ``watch`` puts them together."""
