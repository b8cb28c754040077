"""What must hold of the front door, asked of real services."""
