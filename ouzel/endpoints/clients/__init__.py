"""What asks each kind of endpoint."""
