"""What others check: a whole log, a database against it, an image against an entry; and witnesses."""
