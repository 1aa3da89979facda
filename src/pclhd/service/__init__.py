"""The search service: a gallery over HTTP, with tokens, an audit log, limits, and a page."""
