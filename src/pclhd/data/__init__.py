"""From files on disk to records, and from records to image batches."""
