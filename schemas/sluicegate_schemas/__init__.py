"""The contract of Sluicegate: every record that crosses a topic and every HTTP body."""
