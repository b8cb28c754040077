"""What callers give and get."""
