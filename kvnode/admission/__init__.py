"""What a node takes on, and what it lets go of when memory becomes scarce."""
