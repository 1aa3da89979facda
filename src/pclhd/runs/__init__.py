"""The run folder: what it holds, and the records that training writes and reports read."""
