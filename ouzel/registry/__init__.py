"""Model stores that many machines share: what they hold, who serves it. Without torch and without services."""
