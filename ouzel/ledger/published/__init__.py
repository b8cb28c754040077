"""Where the published files of a log lie: a folder, a bucket, a web server."""
