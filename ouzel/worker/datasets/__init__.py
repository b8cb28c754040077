"""The data sets that callers upload, content-addressed."""
