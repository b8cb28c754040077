"""From what callers give to messages of the wire, and back."""
