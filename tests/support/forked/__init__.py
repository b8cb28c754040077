"""What is forked in tests: modules with a function `main`."""
