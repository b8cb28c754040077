"""What the gateway tells of its calls: metrics, statistics, and refusals on record."""
