"""What the operator's file says of endpoints. No torch."""
