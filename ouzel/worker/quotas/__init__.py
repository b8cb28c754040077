"""What owners may use, and what a job will probably cost: the operator's file, bytes that are reserved, quotes."""
