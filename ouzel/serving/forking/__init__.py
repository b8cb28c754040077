"""Model processes that fork from one that has imported torch: they start at once and share its memory."""
