"""Files by the SHA-256 of their content: in a folder, or in a bucket that speaks S3."""
