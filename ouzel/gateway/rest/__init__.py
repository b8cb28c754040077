"""The port of REST: its application, bodies and errors."""
