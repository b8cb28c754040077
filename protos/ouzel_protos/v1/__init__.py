"""Messages of package ouzel.v1."""
