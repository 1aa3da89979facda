"""The run folder: its files, and the records that training writes and reports read."""
