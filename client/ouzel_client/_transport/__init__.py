"""Where the services are, and calls to them."""
