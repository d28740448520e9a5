"""Where an archive is kept: a directory or a bucket, with the same layout in both."""
